"""Twenty requests at once: the server batches what fits, queues the rest, and refuses what is too much.

A refusal is a 429 with a Retry-After; OpenAI's SDK waits that long and tries again, up to `max_retries` times.
Try it with a short queue: mlx-server launch --queue-size 4 --max-concurrency 4 --model-path …
"""

from __future__ import annotations

import argparse
import asyncio
import time

from openai import AsyncOpenAI

REQUESTS = 20


async def ask(client: AsyncOpenAI, number: int) -> int:
    """One request; returns how often the SDK had to try again."""
    response = await client.chat.completions.with_raw_response.create(
        model="local-model",
        messages=[{"role": "user", "content": f"What is {number} and {number}?"}],
        temperature=0,
        max_tokens=10,
    )
    text = response.parse().choices[0].message.content
    print(f"{number:2}: {text!r}, tried again {response.retries_taken} times")
    return response.retries_taken


async def ask_all(base_url: str) -> None:
    """All at once, and how long they took together."""
    begin = time.monotonic()
    async with AsyncOpenAI(base_url=base_url, api_key="not-needed", max_retries=20) as client:
        retries = await asyncio.gather(*(ask(client, number) for number in range(REQUESTS)))
    print(f"{REQUESTS} answers in {time.monotonic() - begin:.1f} s, {sum(retries)} refusals on the way")


def main() -> None:
    """Ask them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    asyncio.run(ask_all(parser.parse_args().base_url))


if __name__ == "__main__":
    main()
