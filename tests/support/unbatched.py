"""`python unbatched.py FOLDER < requests`: what mlx-lm itself says, one request after the other, as JSON.

A request is {"messages" or "prompt", "max_tokens"}; an answer is a list of [text so far, top-2 margin] by token.
`generate` is `stream_generate` joined; the stream has the margins too. Runs in a process of its own, since a test's
process must not keep a model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlx.core as mx
from mlx_lm import stream_generate
from mlx_lm.utils import dequantize_model, load_model, load_tokenizer


def margin(logprobs: mx.array) -> float:
    """How far the best token is ahead of the second, in nats."""
    best = mx.sort(logprobs)[-2:]
    return float((best[1] - best[0]).item())


def main(folder: Path) -> list[list[tuple[str, float]]]:
    """Answer the requests on standard input."""
    mx.disable_compile()
    model, config = load_model(folder)
    model = dequantize_model(model)
    model.set_dtype(mx.float32)
    tokenizer = load_tokenizer(folder, eos_token_ids=config["eos_token_id"])
    answers = []
    for request in json.load(sys.stdin):
        if "messages" in request:
            prompt = tokenizer.apply_chat_template(request["messages"], add_generation_prompt=True)
        else:
            prompt = tokenizer.encode(request["prompt"])
        text, tokens = "", []
        for response in stream_generate(model, tokenizer, prompt, max_tokens=request["max_tokens"]):
            text += response.text
            tokens.append((text, margin(response.logprobs)))
        answers.append(tokens)
    return answers


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
