import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlx_server.schemas.internal.generation import ChatPrompt, GenerationRequest, Message, Sampling, TextPrompt
from mlx_server.schemas.internal.messages import Load, Loading, ModelFacts, Text
from mlx_server.workers.engine.sequence import Broken, Token
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.handlers import make_handler
from mlx_server.workers.handlers.lm import LanguageHandler
from mlx_server.workers.handlers.writing import SUPPRESSED, read_sampling_defaults

pytestmark = pytest.mark.model

TOKEN_BYTES = 2 * 2 * 2 * 16 * 4
"""Keys and values of the tiny llama: layers, heads, width, float32."""


def _load(handler: LanguageHandler, folder: Path | str, rows: int = 4) -> tuple[ModelFacts, list[Loading]]:
    reports: list[Loading] = []
    facts = handler.load(Load(str(folder), "lm", rows, 512, "/dev/null/nowhere"), reports.append)
    return facts, reports


def _refusal(folder: Path | str) -> str:
    with pytest.raises(ModelLoadError) as caught:
        _load(LanguageHandler(), folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("architecture", "rows", "note"),
    [("llama", 4, None), ("mamba", 4, "prompts prefilled one at a time"), ("gemma2", 1, "one request at a time")],
)
def test_load_tells_how_many_rows_a_model_takes_and_why_not_more(
    tiny_model: Callable[[str], Path], architecture: str, rows: int, note: str | None
) -> None:
    facts, reports = _load(LanguageHandler(), tiny_model(architecture))
    assert (facts.rows, facts.architecture, facts.context_length) == (rows, architecture, 512)
    assert facts.parameter_bytes > 0
    notes = facts.notes
    assert (notes == ()) if note is None else any(note in told for told in notes)
    weights = [report for report in reports if report.phase == "loading weights"]
    assert [report.done for report in weights] == sorted({report.done for report in weights})
    assert weights[-1].done == weights[-1].total == facts.parameter_bytes
    assert reports[-1].phase == "warming up"


@pytest.mark.parametrize(
    ("how", "longest", "kept"),
    [
        ({"kv_bytes": 300 * TOKEN_BYTES, "prefix_cache_bytes": 5}, 300, 5),
        ({"context_length": 100, "prefix_cache_bytes": 0}, 100, 0),
        ({"prefix_share": 0.0}, 512, 512 * TOKEN_BYTES),
        ({"prefix_share": 0.0, "kv_bytes": 300 * TOKEN_BYTES}, 300, 300 * TOKEN_BYTES),
        ({"prefix_most": 1000}, 512, 1000),
    ],
)
def test_memory_says_how_long_a_request_may_be_and_what_is_kept(
    tiny_model: Callable[[str], Path], how: dict[str, Any], longest: int, kept: int
) -> None:
    handler = LanguageHandler()
    facts = handler.load(Load(str(tiny_model("llama")), "lm", 4, 512, "/dev/null/nowhere", **how), lambda _: None)
    assert (facts.context_length, facts.max_model_len, handler._prefixes.limit_bytes) == (512, longest, kept)
    assert any("may have 300 of 512 tokens" in note for note in facts.notes) is (longest == 300)
    handler.close()


@pytest.mark.parametrize("architecture", ["llama", "mamba", "gemma2"])
def test_a_request_goes_through_every_part_of_the_handler(tiny_model: Callable[[str], Path], architecture: str) -> None:
    handler = LanguageHandler()
    _load(handler, tiny_model(architecture))
    prompt = ChatPrompt((Message("user", "the quick brown fox"),))
    [sequence] = handler.prepare(1, GenerationRequest((prompt,), 8, sampling=Sampling(temperature=0.0)))
    answer = handler.answer_stream(sequence)
    handler.engine.add(sequence)
    text = ""
    while handler.engine.busy:
        for item in handler.engine.step():
            assert isinstance(item, Token)
            text += "".join(part.text for part in answer.add(item) if isinstance(part, Text))
    assert len(sequence.emitted) == answer.finished().completion_tokens == 8
    assert (text != "", answer.finish) == (True, "length")
    handler.close()


def test_a_prediction_of_tokens_that_the_model_does_not_know_is_not_guessed(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """Tokenizers may have more tokens than the model's weights."""
    from tokenizers import Tokenizer

    folder = Path(shutil.copytree(tiny_model("llama"), tmp_path / "model"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|beyond|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    handler = LanguageHandler()
    facts, _ = _load(handler, folder)
    says_x = Sampling(temperature=0.0, logit_bias={tokenizer.token_to_id("x"): 100.0})
    asked = GenerationRequest((TextPrompt("the"),), 3, sampling=says_x, speculate="ngram")
    guesses = {}
    for text in ("x<|beyond|>", "xx"):
        [sequence] = handler.prepare(1, msgspec.structs.replace(asked, prediction=text))
        handler.engine.add(sequence)
        while handler.engine.busy:
            assert not any(isinstance(item, Broken) for item in handler.engine.step())
        guesses[text] = (max(sequence.predicted) >= facts.vocab_size, sequence.drafted)
    handler.close()
    assert guesses == {"x<|beyond|>": (True, 0), "xx": (False, 1)}


@pytest.mark.parametrize("default", [False, True])
def test_a_model_without_a_chat_template_says_so_unless_there_is_a_default(
    tiny_model: Callable[[str], Path], tmp_path: Path, default: bool
) -> None:
    folder = Path(shutil.copytree(tiny_model("llama"), tmp_path / "model"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": None}))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    handler = LanguageHandler()
    facts = handler.load(
        Load(str(folder), "lm", 4, 512, "/dev/null/nowhere", use_default_chat_template=default), lambda report: None
    )
    handler.close()
    assert any("no chat template" in note for note in facts.notes) is not default


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert str(missing) in _refusal(missing)
    assert "does not exist" in _refusal(missing)


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    assert "is not a model: it has no config.json" in _refusal(tmp_path)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_text("nothing")
    assert "neither a model folder nor a .gguf file" in _refusal(path)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model_type": "nonesuch"}, "nonesuch"),
        ({"model_type": None}, "names no model_type"),
        ({"hidden_size": 128}, "can't be loaded"),
        ({"num_hidden_layers": "many"}, "can't be loaded"),
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_is_refused(
    tiny_model: Callable[[str], Path], tmp_path: Path, changes: dict[str, object], what: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    message = _refusal(folder)
    assert message.startswith(str(folder))
    assert what in message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_a_folder_with_a_damaged_file_is_refused(
    tiny_model: Callable[[str], Path], tmp_path: Path, name: str, damage: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(b"rubbish" * 10)
    assert str(folder) in _refusal(folder)


def _with_flags(folder: Path, **flags: Any) -> Load:
    return Load(str(folder), "lm", 4, 512, "/dev/null/nowhere", **flags)


def _prompt(handler: LanguageHandler) -> str:
    request = GenerationRequest((ChatPrompt((Message("user", "fox"),)),), 1, echo=True)
    [sequence] = handler.prepare(1, request)
    assert sequence.echo is not None
    return sequence.echo


@pytest.mark.parametrize("own", ["template", "function"])
def test_an_operators_template_takes_the_place_of_the_models_own(
    tiny_model: Callable[[str], Path], tmp_path: Path, own: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    if own == "function":
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template_type": "deepseek_v32"}))
    template = "{{ mood }}:{{ messages[0].content }}"
    handler = LanguageHandler()
    handler.load(_with_flags(folder, chat_template=template, chat_template_args={"mood": "calm"}), lambda _: None)
    assert _prompt(handler) == "calm:fox"
    handler.close()


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ({"chat_template": "{% if %}"}, "line 1"),
        ({"chat_template_args": {"mood": "calm"}}, "--chat-template-args.mood"),
    ],
    ids=["template", "arguments"],
)
def test_flags_that_do_not_fit_the_model_are_refused_at_the_start(
    tiny_model: Callable[[str], Path], flags: dict[str, Any], part: str
) -> None:
    with pytest.raises(ModelLoadError) as caught:
        LanguageHandler().load(_with_flags(tiny_model("llama"), **flags), lambda _: None)
    assert part in str(caught.value)


def test_the_default_template_helps_a_model_that_has_none(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    handler = LanguageHandler()
    handler.load(_with_flags(folder, use_default_chat_template=True), lambda _: None)
    assert _prompt(handler) == "user\nfox\nassistant\n", "with special tokens between them"
    handler.close()


@pytest.mark.parametrize(
    ("template", "chats", "note"),
    [
        ("{{ messages[0].content }}", True, None),
        (None, False, "it has no chat template, so /v1/chat/completions is refused unless a request sends one"),
        ("{% if messages %}", False, "The model's chat template is broken: line 1: Unexpected end of template"),
        ("{{ raise_exception('not\\ntoday') }}", False, "The model's chat template refuses these messages: not today"),
    ],
    ids=["works", "none", "broken", "refuses"],
)
def test_a_template_that_renders_nothing_is_told_at_the_start(
    tiny_model: Callable[[str], Path], tmp_path: Path, template: str | None, chats: bool, note: str | None
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template")
    given = {} if template is None else {"chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **given}))
    handler = LanguageHandler()
    facts, _ = _load(handler, folder)
    handler.close()
    assert facts.chats is chats
    assert len(facts.notes) == (note is not None)
    for told in facts.notes:
        assert note is not None
        assert note in told
        assert "\n" not in told


@pytest.mark.parametrize("model_type", ["film", "nonesuch"])
def test_a_kind_of_model_that_is_not_served_is_refused_plainly(model_type: str) -> None:
    with pytest.raises(ModelLoadError, match=f"{model_type}.* not served"):
        make_handler(model_type)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, Sampling()),
        ({}, Sampling()),
        ({"temperature": 0.6, "top_p": 0.9, "do_sample": True, "eos_token_id": 2}, Sampling(0.6, 0.9)),
        ({"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.05}, Sampling(None, None, 20, 0.05, None, 1.05)),
        ({"temperature": None}, Sampling()),
        ({"temperature": 0.6, "do_sample": False}, Sampling(0.0)),
        ({"suppress_tokens": [3, 100, -1]}, Sampling(logit_bias={3: SUPPRESSED})),
        ({"suppress_tokens": None}, Sampling()),
        ({"suppress_tokens": 3, "top_k": 20}, Sampling()),
        ({"temperature": "hot"}, Sampling()),
        ([], Sampling()),
        ("not an object", Sampling()),
    ],
    ids=str,
)
def test_read_sampling_defaults_takes_what_the_authors_recommend(
    tmp_path: Path, content: object, expected: Sampling
) -> None:
    if content is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(content))
    assert read_sampling_defaults(tmp_path, vocab_size=100) == expected


def test_tokens_that_the_authors_suppress_are_not_written(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    first = _written(folder, Sampling(temperature=0.0))
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False, "suppress_tokens": first}))
    other = _written(folder, Sampling())
    assert set(other) & set(first) == set()
    assert _written(folder, Sampling()) == other, "not sampled"
    assert _written(folder, Sampling(logit_bias={first[0]: 100.0}))[0] == first[0], "a client's own word wins"


def test_what_generation_config_asks_for_in_vain_is_told(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    (folder / "generation_config.json").write_text(json.dumps({"num_beams": 4}))
    handler = LanguageHandler()
    facts, _ = _load(handler, folder)
    handler.close()
    assert facts.notes == ("generation_config.json asks for what this server does not do (num_beams: 4)",)


def _written(folder: Path, sampling: Sampling) -> list[int]:
    handler = LanguageHandler()
    _load(handler, folder)
    prompt = ChatPrompt((Message("user", "the quick brown fox"),))
    [sequence] = handler.prepare(1, GenerationRequest((prompt,), 8, sampling=sampling))
    handler.engine.add(sequence)
    while handler.engine.busy:
        handler.engine.step()
    handler.close()
    return list(sequence.emitted)
