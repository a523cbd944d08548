"""A model that sees, in the test's own process: conversations, its engine, and what mlx-vlm says to each alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from support.engines import GREEDY

from mlx_server.schemas.attachments import media_of, with_media
from mlx_server.schemas.internal.generation import ChatPrompt, GenerationRequest, Media, Message
from mlx_server.workers.engine.sequence import Sequence

SHAPES = Path(__file__).parents[2] / "shapes" / "model"
"""A tiny trained model that answers questions about coloured shapes."""


def png(image: Image.Image) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def said(text: str, *images: Image.Image, role: str = "user") -> Message:
    """A message with pictures before its text."""
    media = tuple(Media("image", png(image), 0, f"messages[0].content[{i}]") for i, image in enumerate(images))
    return Message(role, text, media=media)


def heard(text: str, *files: bytes, role: str = "user") -> Message:
    """A message with sounds before its text."""
    media = tuple(Media("audio", file, 0, f"messages[0].content[{i}]") for i, file in enumerate(files))
    return Message(role, text, media=media)


class Sight:
    """The model, and what makes sequences for it. Imports MLX only where it runs."""

    def __init__(self, folder: Path) -> None:
        import mlx.core as mx

        from mlx_server.schemas.internal.generation import Sampling
        from mlx_server.schemas.internal.messages import MediaLimits
        from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
        from mlx_server.workers.engine.loading.loading import read_tokenizer
        from mlx_server.workers.engine.media.media import MediaDecoder
        from mlx_server.workers.engine.output.output_format import OutputFormat
        from mlx_server.workers.engine.prompt.prompts import PromptMaker
        from mlx_server.workers.engine.vision.inputs import InputReader
        from mlx_server.workers.engine.vision.loading import read_vision_model
        from mlx_server.workers.engine.vision.placeholders import placeholders
        from mlx_server.workers.folders.context_length import context_length

        self.model, self.processor, config, _ = read_vision_model(folder, "auto")
        mx.eval(self.model.parameters())
        self.tokenizer: Any = read_tokenizer(folder, config)[0]
        self.stop_tokens = set(self.tokenizer.eos_token_ids)
        size = config["vocab_size"]
        vocabulary = Vocabulary(self.tokenizer, size)
        self.inputs = InputReader(self.processor, self.model.config, placeholders(self.model, config))
        self.media = MediaDecoder(MediaLimits(), 1, self.inputs.sample_rate)
        self.prompts = PromptMaker(
            self.tokenizer,
            size,
            context_length(config),
            Sampling(),
            vocabulary,
            OutputFormat.of(self.tokenizer),
            media=self.inputs,
        )

    def engine(self, **how: Any) -> Any:
        """Small chunks, so that prompts take several."""
        from mlx_server.workers.engine.vision.batch import VisionEngine

        return VisionEngine(self.model, self.stop_tokens, **({"rows": 8, "prefill_step_size": 16} | how))

    def sequences(self, number: int, *messages: Message, max_tokens: int = 16, **how: Any) -> list[Sequence]:
        """A request's choices, greedy unless told."""
        request = GenerationRequest((ChatPrompt(messages),), max_tokens, **({"sampling": GREEDY} | how))
        return self.prompts.sequences(number, shown(request, self.media.decode))

    def close(self) -> None:
        """End the processes."""
        self.media.close()
        self.prompts.close()

    def sequence(self, number: int, *messages: Message, **how: Any) -> Sequence:
        """The one choice of a request."""
        [sequence] = self.sequences(number, *messages, **how)
        return sequence

    def alone(self, *messages: Message, max_tokens: int = 16) -> list[int]:
        """The greedy answer of mlx-vlm's own unbatched loop, rendered and processed by its own means."""
        from mlx_vlm import stream_generate

        from mlx_server.workers.engine.vision.inputs import metadata

        dicts = [
            {"role": m.role, "content": [*map(part, m.media), {"type": "text", "text": m.content}]} for m in messages
        ]
        text = self.processor.tokenizer.apply_chat_template(dicts, tokenize=False, add_generation_prompt=True)
        media = self.media.decode([one for m in messages for one in m.media])
        images = [one.content for one in media if one.kind == "image"]
        sounds = [one.content for one in media if one.kind == "audio"]
        films = [one.content for one in media if one.kind == "video"]
        tokens = []
        for response in stream_generate(
            self.model,
            self.processor,
            text,
            image=images or None,
            audio=sounds or None,
            video=[film.frames for film in films] or None,
            **({"video_metadata": [metadata(film) for film in films]} if films else {}),
            max_tokens=max_tokens,
            temperature=0.0,
        ):
            tokens.append(response.token)
            if response.token in self.stop_tokens:
                break
        return tokens[:max_tokens]

    def text(self, tokens: list[int]) -> str:
        """Without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


def shown(given: Any, decode: Any) -> Any:
    """A request or a prompt with its files decoded, as a worker has it decoded."""
    media = media_of(given)
    ready = iter(decode(media) if media else ())
    return with_media(given, lambda _: next(ready))


def part(media: Media) -> dict[str, str]:
    """A picture's place, as templates have it."""
    return {"type": media.kind}


def conversations(seed: int, count: int) -> Iterator[tuple[Message, ...]]:
    """Without a picture, with one, with several in a message or over two turns; pictures of different sizes."""
    import random

    from shapes.draw import draw_scene

    rnd = random.Random(seed)

    def image() -> Image.Image:
        return draw_scene(rnd).image(rnd.choice((32, 64, 96)), rnd.choice((32, 64, 80)))

    kinds = (
        lambda: (said("What colour is the shape?", image()),),
        lambda: (said("Hello!"),),
        lambda: (
            said("Describe the picture.", image()),
            said("a shape", role="assistant"),
            said("What shape is it?", image()),
        ),
        lambda: (said("What shape is in the second picture?", image(), image()),),
        lambda: (said("Describe the picture.", image()),),
    )
    for n in range(count):
        yield kinds[n % len(kinds)]()
