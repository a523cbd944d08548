"""The server inside this process, without a port: the same API, through an SDK whose HTTP client calls the application.

The model still lives in a worker process of its own, which starts and ends with the application.
python examples/embedded.py --model-path mlx-community/Qwen3-0.6B-4bit (needs openai beside mlx-server)
"""

from __future__ import annotations

import argparse

from openai import OpenAI
from starlette.testclient import TestClient

from mlx_server.app.config.settings import ModelSettings, Settings
from mlx_server.app.server.server import create_app


def main() -> None:
    """Start, ask, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-path", required=True, help="an MLX folder, a .gguf file or a hub id")
    settings = Settings(models=(ModelSettings(parser.parse_args().model_path),), response_store="memory")
    with TestClient(create_app(settings)) as http:
        client = OpenAI(http_client=http, api_key="not-needed", base_url="http://embedded/v1")
        answer = client.chat.completions.create(
            model="local-model",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
            max_tokens=20,
        )
        print("Answer:", answer.choices[0].message.content)
        print("Statistics:", http.get("/v1/queue/stats").json()["queue_stats"]["served"], "served")


if __name__ == "__main__":
    main()
