"""Workers that have given up what they do not need do their work: each kind of model, in folders that aren't theirs."""

import base64
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shapes.draw import draw_scene
from support.films import film_file
from support.running.servers import ROOT, Server
from support.sounds import encoded, wav
from support.tiny.encoders import make_encoder
from support.tiny.gguf_files import write_gguf
from support.tiny.sight import SHAPES
from support.tiny.speaking import make_speaking

pytestmark = pytest.mark.model

PAINTER = ROOT / "tests" / "drawing" / "model"


@pytest.fixture(scope="module")
def server(
    tiny_model: Callable[[str], Path], whisper_tiny: Path, kokoro_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """All kinds in turn, each in the standby's process; temporary files and caches lie apart from their folders."""
    made = tmp_path_factory.mktemp("models")
    models = {
        "gguf": write_gguf(made / "tiny.gguf"),
        "bert": make_encoder(made / "bert", "bert"),
        "kitten": make_speaking(made / "kitten", "kitten_tts"),
        "kokoro": kokoro_folder,
        "whisper": whisper_tiny,
        "shapes": SHAPES,
        "painter": PAINTER,
    }
    env = {"TMPDIR": str(tmp_path_factory.mktemp("tmp")), "MLX_SERVER_STANDBY": "true"}
    named = [part for name, path in models.items() for part in ("--model", f"{name}={path}")]
    server = Server(*named, "--max-models", 1, "--cache-dir", tmp_path_factory.mktemp("cache"), env=env)
    server.wait_listening()
    yield server
    output = server.output()
    server.close()
    assert output.count("writes only below") == output.count("opens no more connections")
    assert "Permission denied" not in output
    assert "Operation not permitted" not in output


def ask(server: Server, path: str, **body: Any) -> Any:
    """The answer of a model that is loaded for it."""
    answer = server.post(f"/v1{path}", body, timeout=240)
    assert answer.status_code == 200, answer.text
    return answer


def test_a_gguf_file_is_converted(server: Server) -> None:
    assert ask(server, "/completions", model="gguf", prompt=[5, 6], max_tokens=3).json()["choices"]


def test_vectors_are_made(server: Server) -> None:
    assert ask(server, "/embeddings", model="bert", input="one two").json()["data"][0]["embedding"]


@pytest.mark.parametrize("model", ["kitten", "kokoro"])
def test_words_are_spoken_and_encoded(server: Server, model: str) -> None:
    spoken = ask(server, "/audio/speech", model=model, input="Tomorrow, gnomes.", response_format="mp3")
    assert spoken.content


def test_a_recording_is_decoded_and_heard(server: Server) -> None:
    given = {"files": {"file": ("a.mp3", encoded(wav(1.0), "mp3"))}, "data": {"model": "whisper"}}
    heard = server.http.post(f"{server.root}/v1/audio/transcriptions", **given, timeout=240)
    assert heard.status_code == 200, heard.text


def test_pictures_and_films_are_decoded_and_seen(server: Server, tmp_path: Path) -> None:
    scene = io.BytesIO()
    draw_scene(random.Random(1)).image().save(scene, "PNG")
    film = film_file(tmp_path / "a.mp4", [(250, 0, 0)] * 20)
    shown = [("image_url", "image/png", scene.getvalue()), ("video_url", "video/mp4", film)]
    parts = [{"type": k, k: {"url": f"data:{kind};base64,{base64.b64encode(f).decode()}"}} for k, kind, f in shown]
    asked = [{"role": "user", "content": [*parts, {"type": "text", "text": "What shape is it?"}]}]
    assert ask(server, "/chat/completions", model="shapes", messages=asked, max_tokens=4).json()["choices"]


def test_pictures_are_drawn(server: Server) -> None:
    drawn = ask(server, "/images/generations", model="painter", prompt="a red circle", size="64x64")
    assert base64.b64decode(drawn.json()["data"][0]["b64_json"])


def test_a_worker_that_is_not_to_be_confined_says_so(launch: Callable[..., Server], tiny_model: Any) -> None:
    server = launch("--model-path", tiny_model("llama"), "--no-confine-workers")
    assert "gives nothing up" in server.output()
    assert "writes only below" not in server.output()
