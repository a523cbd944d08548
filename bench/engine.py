"""The baseline: a closed loop over mlx-lm's own `BatchGenerator`, with no server around it.

Run it in the worker's environment (`mlx_server.workers.parent.environment.child_environment()`): it prepares MLX
and the weights with the worker's own functions, so that both sides have the same BLAS and precision.
It reads commands from stdin and answers each with one line of JSON:

    run CLIENTS REQUESTS MAX_TOKENS [FIRST_PROMPT]    one closed loop, timed
    calibrate CLIENTS MAX_TOKENS                      forget this client count's setting and choose again

The first `run` at a client count calibrates it first. With `--clients` it prints that many timed
repetitions instead and ends.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

import mlx.core as mx
import mlx_lm
from lib.prompts import prompt_texts
from mlx_lm.generate import BatchGenerator

from mlx_server.workers.engine.runtime.platform import configure, suit_weights

STEP_SIZES = (512, 2048)


@dataclass(frozen=True, slots=True)
class Setting:
    """The two knobs of `BatchGenerator` that change its speed at a given number of rows."""

    prefill_batch_size: int
    prefill_step_size: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """One closed loop. `tokens` counts what was generated, an end-of-sequence token included."""

    clients: int
    requests: int
    max_tokens: int
    first_prompt: int
    wall_s: float
    tokens: int
    tokens_per_s: float
    stopped_early: int
    prompt_tokens: int
    setting: Setting


class Engine:
    """A loaded model and the settings found fastest for each number of clients."""

    def __init__(self, model_path: Path) -> None:
        configure(quicken=False)
        model, self._tokenizer = mlx_lm.load(str(model_path), lazy=True)[:2]
        self._model, _ = suit_weights(model, "auto")
        mx.eval(self._model.parameters())
        self._stop_tokens = [[token] for token in sorted(self._tokenizer.eos_token_ids)]
        self._settings: dict[int, Setting] = {}

    def calibrate(self, clients: int, max_tokens: int) -> list[Measurement]:
        """Tries every setting that can matter with `clients` rows, twice and briefly, and keeps the fastest."""
        prompts = self._prompts(clients, first=0)
        brief = max(4, max_tokens // 8)
        candidates = _candidates(clients, max(map(len, prompts)))
        self._closed_loop(prompts, clients, brief, candidates[-1])
        tried = [self._closed_loop(prompts, clients, brief, setting) for setting in candidates * 2]
        self._settings[clients] = max(tried, key=lambda trial: trial.tokens_per_s).setting
        return tried

    def run(self, clients: int, requests: int, max_tokens: int, first_prompt: int = 0) -> Measurement:
        if clients not in self._settings:
            self.calibrate(clients, max_tokens)
        prompts = self._prompts(requests, first_prompt)
        return self._closed_loop(prompts, clients, max_tokens, self._settings[clients], first_prompt)

    def _prompts(self, count: int, first: int) -> list[list[int]]:
        return [
            self._tokenizer.apply_chat_template(
                [{"role": "user", "content": text}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
            for text in prompt_texts(count, first)
        ]

    def _closed_loop(
        self, prompts: list[list[int]], clients: int, max_tokens: int, setting: Setting, first_prompt: int = 0
    ) -> Measurement:
        waiting = iter(prompts)
        tokens = finished = stopped = 0
        started_s = perf_counter()
        generator = BatchGenerator(
            self._model,
            max_tokens=max_tokens,
            stop_tokens=self._stop_tokens,
            completion_batch_size=clients,
            **asdict(setting),
        )
        _insert_next(generator, waiting, clients)
        while finished < len(prompts):
            _, responses = generator.next()
            tokens += len(responses)
            ended = [response.finish_reason for response in responses if response.finish_reason]
            if ended:
                finished += len(ended)
                stopped += ended.count("stop")
                _insert_next(generator, waiting, len(ended))
        wall_s = perf_counter() - started_s
        generator.close()
        return Measurement(
            clients=clients,
            requests=len(prompts),
            max_tokens=max_tokens,
            first_prompt=first_prompt,
            wall_s=round(wall_s, 6),
            tokens=tokens,
            tokens_per_s=round(tokens / wall_s, 3),
            stopped_early=stopped,
            prompt_tokens=sum(map(len, prompts)),
            setting=setting,
        )


def _insert_next(generator: BatchGenerator, waiting: Iterable[list[int]], count: int) -> None:
    prompts = [prompt for _, prompt in zip(range(count), waiting, strict=False)]
    if prompts:
        generator.insert(prompts)


def _candidates(clients: int, longest_prompt: int) -> list[Setting]:
    """Settings that differ in effect: a step that holds the whole prompt is as good as a larger one."""
    steps = [step for step in STEP_SIZES if step < longest_prompt] + [STEP_SIZES[-1]]
    batches = sorted({1, min(8, clients), clients})
    return [Setting(batch, step) for batch in batches for step in dict.fromkeys(steps)]


def environment() -> dict[str, Any]:
    """What the figures depend on: versions, device and the BLAS that is really mapped."""
    maps = Path("/proc/self/maps")
    blas = maps.exists() and "libopenblas" in maps.read_text()
    return {
        "mlx": version("mlx"),
        "mlx_lm": version("mlx-lm"),
        "device": str(mx.default_device()),
        "openblas": blas,
        "cores": os.cpu_count(),
    }


def serve(engine: Engine, commands: TextIO, answers: TextIO) -> None:
    """Answers commands until stdin ends; a bad one gets `{"error": ...}`."""
    for line in commands:
        match line.split():
            case ["run", *numbers] if len(numbers) in (3, 4) and all(map(str.isdecimal, numbers)):
                answer: Any = asdict(engine.run(*map(int, numbers)))
            case ["calibrate", clients, max_tokens] if (clients + max_tokens).isdecimal():
                answer = [asdict(trial) for trial in engine.calibrate(int(clients), int(max_tokens))]
            case _:
                answer = {"error": f"not a command: {line.strip()!r}"}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Closed loop over mlx-lm's bare BatchGenerator.")
    parser.add_argument("model", type=Path, help="MLX folder")
    parser.add_argument("--clients", type=int, help="measure at this many rows and end")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    # Libraries may print: only the answers go to the real stdout.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine = Engine(options.model)
    if options.clients is None:
        print(json.dumps({"ready": True} | environment()), file=answers, flush=True)
        serve(engine, sys.stdin, answers)
        return
    for repetition in range(options.repetitions):
        measured = engine.run(options.clients, options.requests, options.max_tokens, repetition * options.requests)
        print(json.dumps(asdict(measured)), file=answers, flush=True)


if __name__ == "__main__":
    main()
