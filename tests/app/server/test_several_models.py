"""Several models in one server: the name selects, they are loaded on first use, unloaded, and read again."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import psutil
import pytest
from support.inputs.command_lines import CommandLines, command_lines
from support.running.clients import sdk
from support.running.servers import Server, chat_body, wait_for

TWO = ("--model-type", "scripted", "--model", "a=scripted", "--model", "b=scripted:load_s=0.2")
CONFIG = """
[server]
idle_timeout = 10

[[model]]
name = "first"
path = "scripted"
type = "scripted"
aliases = ["gpt-4o"]
max_concurrency = 2
pinned = true

[models.second]
path = "scripted"
type = "scripted"
"""


@pytest.fixture(scope="module")
def lines() -> Iterator[CommandLines]:
    with command_lines() as lines:
        yield lines


def states(server: Server) -> dict[str, str]:
    return dict(server.get("/health").json()["models"])


def test_name_selects_the_model(launch: Callable[..., Server]) -> None:
    server = launch(*TWO)
    assert states(server) == {"a": "ready", "b": "ready"}
    assert len(server.worker_pids()) == 2
    for name in ("a", "b", "b"):
        answer = server.chat("hi", model=name)
        assert (answer.status_code, answer.json()["model"]) == (200, name)
    report = server.get("/v1/queue/stats").json()
    assert {name: stats["served"] for name, stats in report["models"].items()} == {"a": 1, "b": 2}
    assert report["queue_stats"]["served"] == 3
    assert 'mlx_server_requests_total{model="b",outcome="served"} 2.0' in server.get("/metrics").text
    assert [model["id"] for model in server.get("/v1/models").json()["data"]][:2] == ["a", "b"]
    unknown, missing = server.chat("hi", model="c"), server.chat("hi")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert unknown.json()["detail"].startswith("Model 'c' not found")
    with pytest.raises(openai.NotFoundError, match="Model 'c' not found"), sdk(server) as client:
        client.models.retrieve("c")
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "model")
    assert "'a', 'b'" in missing.json()["detail"]


def test_model_that_cannot_be_loaded_leaves_the_others_alone(launch: Callable[..., Server]) -> None:
    server = launch("--model-type", "scripted", "--model", "bad=scripted:fail", "--model", "good=scripted")
    assert states(server) == {"bad": "failed", "good": "ready"}
    refused = server.chat("hi", model="bad")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_unavailable")
    assert "the script says that this model can't be loaded" in refused.json()["detail"]
    assert server.chat("hi", model="good").status_code == 200


def test_models_take_turns_where_one_may_be_loaded(launch: Callable[..., Server]) -> None:
    server = launch(*TWO, "--max-models", 1)
    assert states(server) == {"a": "ready", "b": "unloaded"}
    assert server.chat("hi", model="b").status_code == 200
    assert states(server) == {"a": "unloaded", "b": "ready"}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: server.chat("hi", model="ab"[n % 2]), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len(server.worker_pids()) == 1


def test_pinned_model_stays(launch: Callable[..., Server]) -> None:
    server = launch(*TWO, "--max-models", 1, "--pin", "b")
    assert states(server) == {"a": "unloaded", "b": "ready"}
    refused = server.chat("hi", model="a")
    assert refused.status_code == 400
    assert refused.json()["detail"] == "All 1 models that may be loaded at a time (--max-models) are pinned"


def test_idle_model_is_unloaded_and_loaded_again(launch: Callable[..., Server]) -> None:
    server = launch(*TWO, "--max-models", 1, "--idle-timeout", 0.01)
    assert server.chat("hi", model="b").status_code == 200
    server.wait_until(lambda: states(server) == {"a": "unloaded", "b": "unloaded"})
    assert server.worker_pids() == []
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.chat("hi", model="b"), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4


def test_without_auto_load_a_model_has_to_be_loaded_first(launch: Callable[..., Server]) -> None:
    server = launch(*TWO, "--max-models", 1, "--no-auto-load")
    refused = server.chat("hi", model="b")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "model_not_loaded")
    assert refused.json()["detail"] == "Model 'b' is not loaded. Load it first with POST /v1/models/b/load"


def test_configuration_is_read_again(launch: Callable[..., Server], tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(CONFIG)
    server = launch("--config", file)
    assert states(server) == {"first": "ready", "second": "ready"}
    assert server.chat("hi", model="gpt-4o").status_code == 200
    [first, _] = server.worker_pids()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.chat, {"tokens": 30, "interval_s": 0.05}, model="second")
        server.wait_stats(running_requests=1)
        file.write_text(CONFIG.replace("models.second", "models.third"))
        server.process.send_signal(signal.SIGHUP)
        server.wait_until(lambda: states(server) == {"first": "ready", "third": "ready"})
        assert slow.result().status_code == 200
    assert server.chat("hi", model="third").status_code == 200
    assert first in server.worker_pids()
    file.write_text("[[model]]\npaht = 1\n")
    server.process.send_signal(signal.SIGHUP)
    server.wait_until(lambda: "the configuration stays as it was" in server.output())
    assert server.chat("hi", model="third").status_code == 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[model]]\npaht = 'x'\n", "`paht` in [model] is not known; allowed are path, name"),
        ("[[model]]\npath = 1\n", "Expected `str`, got `int`"),
        ("[[model]]\npath = 'x'\nqueue_size = -1\n", "queue_size"),
        ("[server]\nprot = 1\n", "`prot` in [server] is not known"),
        ("[[model", "models.toml"),
        ("[[model]]\npath = '/no/such/model'\n", "does not exist"),
        ("[models.'../x']\npath = 'scripted'\ntype = 'scripted'\n", "can't be a model's name"),
    ],
)
def test_broken_configuration_is_one_line(lines: CommandLines, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "models.toml"
    file.write_text(text)
    done = lines.run("launch", "--config", file)
    assert (done.returncode, done.stdout) == (2, ""), done
    [line] = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert str(file) in line
    assert said in line


@pytest.mark.model
def test_two_real_models_are_served_at_once(launch: Callable[..., Server], smollm2: Path, minilm: Path) -> None:
    server = launch("--model", f"writer={smollm2}", "--model", f"reader={minilm}")
    with ThreadPoolExecutor(2) as pool:
        text = pool.submit(server.chat, "Say hello.", model="writer", max_tokens=8)
        vector = pool.submit(server.post, "/v1/embeddings", {"model": "reader", "input": "hello"})
        assert text.result().json()["choices"][0]["message"]["content"]
        assert len(vector.result().json()["data"][0]["embedding"]) == 384
    wrong = server.post("/v1/chat/completions", chat_body("hi", model="reader"))
    assert wrong.status_code == 400


@pytest.mark.model
def test_models_of_a_folder_are_named_by_their_paths(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "models" / "org").mkdir(parents=True)
    (tmp_path / "models" / "org" / "tiny").symlink_to(tiny_model("llama"))
    inside = tmp_path / "models" / "org" / "own"
    inside.mkdir()
    for file in tiny_model("llama").iterdir():
        (inside / file.name).write_bytes(file.read_bytes())
    server = launch("--models-dir", tmp_path / "models", env={"HF_HUB_CACHE": str(tmp_path / "hub")})
    assert server.worker_pids() == []
    for name in ("org/own", str(inside)):
        assert server.chat("hi", model=name, max_tokens=2).status_code == 200, server.output()
    for name in ("org/tiny", "../models/org/own", "org", "/etc", "org/none"):
        assert server.chat("hi", model=name, max_tokens=2).status_code == 404
    assert [model["id"] for model in server.get("/v1/models").json()["data"]] == ["org/own"]


@pytest.mark.model
def test_sampling_is_as_the_configuration_says_unless_the_request_does(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    file = tmp_path / "models.toml"
    table = '[[model]]\nname = "{}"\npath = "{}"\ntype = "lm"\n{}\n'
    path = tiny_model("llama")
    file.write_text(table.format("greedy", path, "temperature = 0") + table.format("free", path, "temperature = 2"))
    server = launch("--config", file)

    def text(model: str, **more: object) -> str:
        answer = server.chat("hi", model=model, max_tokens=12, seed=7, **more)
        return str(answer.json()["choices"][0]["message"]["content"])

    greedy = text("greedy")
    assert text("greedy", temperature=0) == text("free", temperature=0) == greedy
    assert text("greedy", temperature=2) == text("free") != greedy


def test_loading_and_unloading_leaves_nothing_behind(launch: Callable[..., Server]) -> None:
    """Two models take turns: the front end has no more files, threads, children and memory in the end."""
    server = launch(*TWO, "--max-models", 1)
    front = psutil.Process(server.process.pid)

    def held() -> tuple[int, int]:
        return front.num_fds(), len(front.children(recursive=True))

    def take_turns(count: int) -> None:
        for _ in range(count):
            for name in ("a", "b"):
                assert server.chat("hi", model=name).status_code == 200
        wait_for(lambda: len(server.worker_pids()) == 1)

    take_turns(2)
    before, threads, memory = held(), front.num_threads(), front.memory_info().rss
    take_turns(8)
    wait_for(lambda: held() == before, what=lambda: f"{before} became {held()}")
    # How many threads of the pool there are is how many calls met. Those that rest end when another call is made.
    wait_for(lambda: server.get("/v1/models") and front.num_threads() <= threads, what=lambda: f"more than {threads}")
    assert front.memory_info().rss - memory < 8 << 20
