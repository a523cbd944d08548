"""The baseline of `vision.py`: a closed loop over mlx-vlm's own `BatchGenerator`, with no server around it.

Run it in the worker's environment, as `engine.py`. The clock starts with pictures and questions: what mlx-vlm's
processor, the vision encoder and the language model do with them is timed, the processor's share also by itself
(`prepare_s`). It answers `engine.py`'s `run`.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import mlx.core as mx
import mlx_vlm
from engine import Engine, Measurement, Setting, environment, serve
from lib.pictures import pictures
from mlx_vlm.generate import BatchGenerator
from mlx_vlm.prompt_utils import apply_chat_template
from mlx_vlm.utils import prepare_inputs

from mlx_server.workers.engine.runtime.platform import configure, suit_weights

Inputs = dict[str, Any]
PREFILL_STEP_SIZE = 512
PREFILL_BATCH_SIZE = 1
"""With more, nothing joins a running batch before so many rows are free."""


@dataclass(frozen=True, slots=True)
class VisionMeasurement(Measurement):
    """The same; for `prepare_s` of the time pictures became pixel values and questions token ids."""

    prepare_s: float = 0.0


class VisionEngine(Engine):
    """A loaded vision model."""

    def __init__(self, model_path: Path) -> None:
        configure(quicken=False)
        model, self._processor = mlx_vlm.load(str(model_path), lazy=True, trust_remote_code=False)
        self._model, _ = suit_weights(model, "auto")
        mx.eval(self._model.parameters())

    def calibrate(self, clients: int, max_tokens: int) -> list[Measurement]:
        """There is one setting; a short loop warms up."""
        return [self.run(clients, clients, max(4, max_tokens // 8), first_prompt=1 << 20)]

    def run(self, clients: int, requests: int, max_tokens: int, first_prompt: int = 0) -> Measurement:
        """One closed loop over that many pictures, a question about each."""
        waiting = iter(pictures(requests, first_prompt))
        tokens = finished = 0
        self._prepare_s, self._prompt_tokens = 0.0, 0
        started_s = perf_counter()
        generator = BatchGenerator(
            self._model.language_model,
            self._processor,
            max_tokens=max_tokens,
            stop_tokens=set(),
            completion_batch_size=clients,
            prefill_batch_size=PREFILL_BATCH_SIZE,
            prefill_step_size=PREFILL_STEP_SIZE,
            compute_logprobs=False,
        )
        # Every answer has `max_tokens` tokens, as the server's have with `ignore_eos`.
        self._processor.tokenizer.stopping_criteria.eos_token_ids = []
        generator.tokenizer.stopping_criteria.eos_token_ids = []
        self._insert(generator, waiting, clients)
        while finished < requests:
            _, responses = generator.next()
            tokens += len(responses)
            if ended := sum(response.finish_reason is not None for response in responses):
                finished += ended
                self._insert(generator, waiting, ended)
        wall_s = perf_counter() - started_s
        generator.close()
        return VisionMeasurement(
            clients=clients,
            requests=requests,
            max_tokens=max_tokens,
            first_prompt=first_prompt,
            wall_s=round(wall_s, 6),
            tokens=tokens,
            tokens_per_s=round(tokens / wall_s, 3),
            stopped_early=0,
            prompt_tokens=self._prompt_tokens,
            setting=Setting(PREFILL_BATCH_SIZE, PREFILL_STEP_SIZE),
            prepare_s=round(self._prepare_s, 6),
        )

    def _prepare(self, image: Any, question: str) -> Inputs:
        began_s = perf_counter()
        text = apply_chat_template(self._processor, self._model.config, question, num_images=1)
        inputs = dict(prepare_inputs(self._processor, images=[image], prompts=[text], add_special_tokens=False))
        self._prepare_s += perf_counter() - began_s
        self._prompt_tokens += inputs["input_ids"].shape[1]
        return inputs

    def _insert(self, generator: BatchGenerator, waiting: Iterator[tuple[Any, str]], count: int) -> None:
        for asked in islice(waiting, count):
            inputs = self._prepare(*asked)
            ids, pixels = inputs["input_ids"], inputs["pixel_values"]
            rest = {k: v for k, v in inputs.items() if k not in ("input_ids", "pixel_values", "attention_mask")}
            features = self._model.get_input_embeddings(ids, pixels, mask=inputs.get("attention_mask"), **rest)
            known = {name: value for name, value in features.to_dict().items() if value is not None}
            generator.insert(ids.tolist(), prompt_kwargs=[{**rest, **known}])


def main() -> None:
    parser = argparse.ArgumentParser(description="Closed loop over mlx-vlm's bare BatchGenerator.")
    parser.add_argument("model", type=Path, help="MLX folder of a vision model")
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine = VisionEngine(options.model)
    facts = {"ready": True, "mlx_vlm": version("mlx-vlm")} | environment()
    print(json.dumps(facts), file=answers, flush=True)
    serve(engine, sys.stdin, answers)


if __name__ == "__main__":
    main()
