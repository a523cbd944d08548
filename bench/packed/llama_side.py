"""Holds a GGUF model in llama.cpp and decodes as it is told; `weights.py` runs it in an environment of its own.

Each line of standard input is [prompts, steps]: with steps, so many tokens of each prompt's row are decoded together,
after its prompt has been read; without, one prompt is read. Each answer has tokens_per_s and the tokens.
"""

from __future__ import annotations

import json
import os
import sys
from time import perf_counter
from typing import Any

import llama_cpp
import numpy as np
import psutil

CONTEXT, ROWS = 8192, 8
ERROR = 4
"""llama.cpp's level of what it logs."""


@llama_cpp.llama_log_callback
def log(level: int, text: bytes, _: Any) -> None:
    """Errors alone: the rest is hundreds of lines."""
    if level == ERROR:
        sys.stderr.write(text.decode())


class Model:
    """A model with room for so many rows."""

    def __init__(self, path: str) -> None:
        llama_cpp.llama_log_set(log, None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_seq_max, options.n_batch = CONTEXT, ROWS, 2048
        options.n_threads = options.n_threads_batch = len(os.sched_getaffinity(0))
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        self.batch = llama_cpp.llama_batch_init(2048, 0, 1)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def clear(self) -> None:
        """Forget all rows."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def step(self, entries: list[tuple[int, int, int]], last: list[int]) -> list[int]:
        """The likeliest tokens after the entries (token, position, row) that `last` counts."""
        for at, (token, position, row) in enumerate(entries):
            self.batch.token[at], self.batch.pos[at], self.batch.logits[at] = token, position, at in last
            self.batch.n_seq_id[at], self.batch.seq_id[at][0] = 1, row
        self.batch.n_tokens = len(entries)
        assert llama_cpp.llama_decode(self.context, self.batch) == 0
        logits = (llama_cpp.llama_get_logits_ith(self.context, at) for at in last)
        return [int(np.ctypeslib.as_array(found, (self.vocabulary,)).argmax()) for found in logits]

    def decode(self, prompts: list[list[int]], steps: int) -> dict[str, Any]:
        """Tokens per second of the rows."""
        self.clear()
        for row, prompt in enumerate(prompts):
            self.step([(token, at, row) for at, token in enumerate(prompt[:-1])], [])
        tokens, told = [prompt[-1] for prompt in prompts], list[int]()
        began = 0.0
        for number in range(1 + steps):
            tokens = self.step(
                [(token, len(prompts[row]) - 1 + number, row) for row, token in enumerate(tokens)],
                list(range(len(prompts))),
            )
            if number:
                told += tokens
            else:
                began = perf_counter()
        return {"tokens_per_s": len(told) / (perf_counter() - began), "tokens": told}

    def read(self, prompt: list[int]) -> dict[str, Any]:
        """Tokens per second of a prompt."""
        self.clear()
        began = perf_counter()
        self.step([(token, at, 0) for at, token in enumerate(prompt)], [len(prompt) - 1])
        return {"tokens_per_s": len(prompt) / (perf_counter() - began), "tokens": []}


def main() -> None:
    """Load and measure."""
    model = Model(sys.argv[1])
    model.decode([[100, 101]], 2)
    size, memory = llama_cpp.llama_model_size(model.model), psutil.Process().memory_info().rss
    print(json.dumps({"weights": size, "process": memory, "version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        prompts, steps = json.loads(line)
        print(json.dumps(model.decode(prompts, steps) if steps else model.read(prompts[0])), flush=True)


if __name__ == "__main__":
    main()
