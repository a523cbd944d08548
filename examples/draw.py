"""A picture of what a text says, or changed as it says, with the unfinished ones that come before it.

pip install openai; mlx-server launch --model-path Tongyi-MAI/Z-Image-Turbo;
python examples/draw.py "a red circle at the top left" (which tests/drawing/model draws too, and little else)
"""

from __future__ import annotations

import argparse
import base64
from pathlib import Path
from typing import Any

from openai import OpenAI


def main() -> None:
    """Draw, and save each picture as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt", help="what the picture shall show")
    parser.add_argument("--change", type=Path, metavar="PICTURE", help="begin with this one")
    parser.add_argument("--output", type=Path, default=Path("drawn.png"))
    parser.add_argument("--size", default="auto", help="WIDTHxHEIGHT in pixels; else the model's own")
    parser.add_argument("--seed", type=int, help="draws the same picture again")
    parser.add_argument("--unfinished", type=int, default=0, choices=range(4), help="pictures before the finished one")
    parser.add_argument("--model", default="gpt-image-1", help="any name will do where one model is served")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    given = parser.parse_args()
    client = OpenAI(base_url=given.base_url, api_key="not-needed")
    asked: Any = {
        "model": given.model,
        "prompt": given.prompt,
        "size": given.size,
        "stream": True,
        "partial_images": given.unfinished,
        "extra_body": {} if given.seed is None else {"seed": given.seed},
    }
    images = client.images
    for event in images.edit(image=given.change, **asked) if given.change else images.generate(**asked):
        finished = event.type.endswith("completed")
        path = given.output if finished else given.output.with_stem(f"{given.output.stem}-{event.partial_image_index}")
        path.write_bytes(base64.b64decode(event.b64_json))
        print(f"{path}: {event.size}" + (f", seed {event.seed}" if finished else ", unfinished"))


if __name__ == "__main__":
    main()
