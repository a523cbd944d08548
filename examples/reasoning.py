"""Reasoning: what a model thinks comes apart from what it answers. Needs a model that thinks, such as Qwen3-0.6B."""

from __future__ import annotations

import argparse
from typing import Any

from openai import OpenAI

MODEL = "local-model"
QUESTION = "Is 51 a prime number?"


def ask(client: OpenAI, **more: Any) -> None:
    """The thoughts and the answer as they come."""
    chunks = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], max_tokens=300, seed=6, stream=True, **more
    )
    speaker = None
    for chunk in chunks:
        delta = chunk.choices[0].delta
        thought = getattr(delta, "reasoning_content", None)
        for name, text in (("Thinks", thought), ("Says", delta.content)):
            if text:
                print("" if speaker == name else f"\n{name}: ", text, sep="", end="", flush=True)
                speaker = name
    print()


def main() -> None:
    """Once thinking briefly, once not at all; or why neither is possible."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    client = OpenAI(base_url=parser.parse_args().base_url, api_key="not-needed")
    [model] = client.models.list()
    if not model.features["reasoning"]:
        print(f"{model.id} does not reason. Serve a model that does:")
        print("  mlx-server launch --model-path mlx-community/Qwen3-0.6B-4bit")
        return
    print("With at most 100 tokens of thoughts:")
    ask(client, extra_body={"thinking_budget": 100})
    print("\nWithout thoughts:")
    ask(client, reasoning_effort="none")


if __name__ == "__main__":
    main()
