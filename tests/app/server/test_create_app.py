"""The application in this process, with a real worker process: for those who embed it, and for their tests."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import openai
import psutil
import pytest
from starlette.testclient import TestClient
from support.running.processes import lives
from support.running.servers import chat_body, wait_for
from support.running.streams import DONE, events

from mlx_server.app.config.settings import ApiKey, ModelSettings, Settings
from mlx_server.app.server.server import create_app
from mlx_server.workers.parent.supervisor import Patience

MODEL = ModelSettings("scripted", "scripted", max_concurrency=2, queue_size=1)
SETTINGS = Settings(models=(MODEL,), response_store="memory")


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(SETTINGS)) as client:
        wait_for(lambda: client.get("/health/ready").status_code == 200)
        yield client


def test_app_answers_in_process(client: TestClient) -> None:
    answer = client.post("/v1/chat/completions", json=chat_body("one two"))
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 2
    assert client.get("/v1/queue/stats").json()["queue_stats"]["served"] == 1
    assert client.post("/v1/chat/completions", json={}).status_code == 400


def test_app_streams_in_process(client: TestClient) -> None:
    with client.stream("POST", "/v1/chat/completions", json=chat_body("one two", stream=True)) as response:
        assert list(events(response.iter_lines()))[-1] == DONE


def test_test_client_serves_the_sdk(client: TestClient) -> None:
    sdk = openai.OpenAI(http_client=client, api_key="none", max_retries=0)
    asked = {"model": "any", "messages": [{"role": "user", "content": "one two three"}]}
    assert sdk.chat.completions.create(**asked).choices[0].message.content == "token token token "
    chunks = list(sdk.chat.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "token token token "
    assert len(sdk.chat.completions.create(**asked, n=2).choices) == 2
    with pytest.raises(openai.BadRequestError):
        sdk.chat.completions.create(**asked, n=17)


def test_worker_lives_as_long_as_the_app() -> None:
    before = set(psutil.Process().children())
    with TestClient(create_app(SETTINGS)) as client:
        wait_for(lambda: client.get("/health/ready").status_code == 200)
        [worker] = set(psutil.Process().children()) - before
    assert not lives(worker.pid)


def test_apps_do_not_share_state() -> None:
    named = replace(SETTINGS, models=(replace(MODEL, name="other"),), api_keys=(ApiKey("key"),))
    with TestClient(create_app(SETTINGS)) as first, TestClient(create_app(named)) as second:
        wait_for(lambda: first.get("/health/ready").status_code == second.get("/health/ready").status_code == 200)
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda c: c.post("/v1/chat/completions", json=chat_body("hi")), (first, second)))
        assert [answer.status_code for answer in answers] == [200, 401]
        assert "other" not in first.get("/metrics").text
        assert 'model="other"' in second.get("/metrics", headers={"x-api-key": "key"}).text


def test_worker_that_dies_again_and_again_is_given_up() -> None:
    impatient = replace(SETTINGS, patience=Patience(first_backoff_s=0.01, deaths_in_a_row=3))
    poisonous = chat_body({"die_at": 1})
    with TestClient(create_app(impatient)) as client:
        # Its first request dies twice, its second one once more.
        statuses = [client.post("/v1/chat/completions", json=poisonous).status_code for _ in range(2)]
        assert statuses == [502, 503]
        assert client.get("/health").json()["worker"] == "failed"
        assert client.get("/health").status_code == client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
        for stream in (False, True):
            answer = client.post("/v1/chat/completions", json=chat_body("hi", stream=stream))
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "model_unavailable"
            assert "exited with code 9" in answer.json()["detail"]
        assert 'state="failed"} 1.0' in client.get("/metrics").text


def test_app_whose_model_cannot_be_loaded_says_so() -> None:
    failing = replace(SETTINGS, models=(replace(MODEL, path="scripted:fail"),))
    with TestClient(create_app(failing)) as client:
        wait_for(lambda: client.get("/health").status_code == 503)
        answer = client.post("/v1/chat/completions", json=chat_body("hi"))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "model_unavailable"
    assert "the script says that this model can't be loaded" in answer.json()["detail"]
