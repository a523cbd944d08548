"""Trains the tiny model that draws: `python tests/drawing/train.py --help`.

This part only starts `drawing.trainer` as the model that sees is trained: with the environment that MLX wants, and on a
CPU twice.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shapes.train import run

if __name__ == "__main__":
    run("drawing.trainer")
