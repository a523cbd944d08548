"""OpenAI's Responses API: the server keeps the conversation, streams events, and works on in the background."""

from __future__ import annotations

import argparse
import time

from openai import OpenAI

MODEL = "local-model"


def conversation(client: OpenAI) -> None:
    """The second question needs only the first answer's id."""
    first = client.responses.create(
        model=MODEL, input="What is the capital of France?", temperature=0, max_output_tokens=20
    )
    print("First:", first.output_text)
    second = client.responses.create(
        model=MODEL,
        input="And what is it famous for?",
        previous_response_id=first.id,
        temperature=0,
        max_output_tokens=20,
    )
    print("Then:", second.output_text)
    for response in (first, second):
        client.responses.delete(response.id)


def stream(client: OpenAI) -> None:
    """The last event has the whole response; it is `incomplete` if `max_output_tokens` ended it."""
    for event in client.responses.create(
        model=MODEL, input="Count to five.", temperature=0, max_output_tokens=20, stream=True
    ):
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
        elif event.type in ("response.completed", "response.incomplete"):
            print("\nStreamed:", event.response.status)


def background(client: OpenAI) -> None:
    """The answer is made whether anyone waits for it or not."""
    response = client.responses.create(
        model=MODEL, input="What is the capital of Italy?", temperature=0, max_output_tokens=20, background=True
    )
    print("Background:", response.status)
    while response.status in ("queued", "in_progress"):
        time.sleep(0.2)
        response = client.responses.retrieve(response.id)
    print("Background:", response.status, "-", response.output_text)
    client.responses.delete(response.id)


def main() -> None:
    """Each kind once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    client = OpenAI(base_url=parser.parse_args().base_url, api_key="not-needed")
    for kind in (conversation, stream, background):
        kind(client)


if __name__ == "__main__":
    main()
