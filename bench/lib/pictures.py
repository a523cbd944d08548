"""The fixed pictures of the vision benchmark: coloured shapes, drawn from a seed, and a question about each."""

import base64
import io
import random
import sys
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from shapes.draw import draw_scene

QUESTION = "Describe the picture."


def pictures(count: int, first: int = 0) -> list[tuple[Image.Image, str]]:
    """`count` distinct pictures of an endless sequence, from the one with index `first`, each with its question."""
    return [(draw_scene(random.Random(index)).image(), QUESTION) for index in range(first, first + count)]


def content(image: Image.Image, question: str) -> list[dict[str, Any]]:
    """A message's content for OpenAI's API."""
    return [{"type": "image_url", "image_url": {"url": data_uri(image)}}, {"type": "text", "text": question}]


def data_uri(image: Image.Image) -> str:
    """A picture as a PNG inside a URL."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
