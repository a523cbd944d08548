import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from PIL import Image
from shapes.draw import draw_scene
from support.engines import GREEDY
from support.tiny.sight import SHAPES, png, said, shown
from support.tiny.vision_models import make_vision_model

from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import (
    ChatPrompt,
    FunctionCall,
    GenerationRequest,
    Grammar,
    Limits,
    Media,
    Message,
    Template,
    TextPrompt,
    Tool,
    ToolUse,
)
from mlx_server.schemas.internal.messages import Finished, Load, ModelFacts, Part, Text, ToolCall
from mlx_server.schemas.internal.state_bits import StateBits
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.engine.sequence import Echoed, Sequence, Token
from mlx_server.workers.engine.vision.inputs import InputReader
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.handlers.vlm import VisionHandler

pytestmark = pytest.mark.model

SCENE = draw_scene(random.Random(41))
SCHEMA = (
    '{"type": "object", "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}}, "required": ["colour"]}'
)


def _load(folder: Path, **flags: Any) -> tuple[VisionHandler, ModelFacts]:
    handler = VisionHandler()
    spec = msgspec.structs.replace(Load(str(folder), "vlm", 4, 32, "/dev/null/nowhere"), **flags)
    return handler, handler.load(spec, lambda _: None)


@pytest.fixture(scope="module")
def loaded() -> Iterator[tuple[VisionHandler, ModelFacts]]:
    handler, facts = _load(SHAPES)
    yield handler, facts
    handler.close()


@pytest.fixture
def handler(loaded: tuple[VisionHandler, ModelFacts]) -> VisionHandler:
    return loaded[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the model to be changed."""
    return Path(shutil.copytree(SHAPES, tmp_path / "model"))


def _answer(handler: VisionHandler, *messages: Message, **how: Any) -> tuple[list[Part], Finished]:
    return _run(handler, GenerationRequest((ChatPrompt(messages),), **({"max_tokens": 24, "sampling": GREEDY} | how)))


def _run(handler: VisionHandler, request: GenerationRequest) -> tuple[list[Part], Finished]:
    [sequence] = _prepare(handler, request)
    answer = handler.answer_stream(sequence)
    handler.engine.add(sequence)
    parts: list[Part] = []
    while handler.engine.busy:
        for item in handler.engine.step():
            assert isinstance(item, Token | Echoed)
            parts += answer.add(item)
            if answer.finish and not item.finish:
                handler.engine.remove(sequence.key)
    return parts, answer.finished()


def _prepare(handler: VisionHandler, request: Work) -> list[Sequence]:
    return handler.prepare(1, shown(request, handler.decode))


def _tokens(handler: VisionHandler, prompt: ChatPrompt) -> list[int]:
    return handler.tokens(shown(prompt, handler.decode), ToolUse())


def _text(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def test_load_tells_what_the_model_takes(loaded: tuple[VisionHandler, ModelFacts]) -> None:
    _, facts = loaded
    assert (facts.rows, facts.architecture, facts.media, facts.notes) == (4, "qwen3_vl", ("image", "video"), ())
    assert (facts.context_length, facts.grammars, facts.tools, facts.reasoning) == (4096, True, "hermes", False)
    assert facts.parameter_bytes > 0


def test_a_picture_is_answered_about_and_counted(handler: VisionHandler) -> None:
    other = said("What colour is the shape?", SCENE.image(80, 64))
    parts, finished = _answer(handler, other)
    assert _text(parts) == SCENE.shapes[0].colour
    assert (finished.reason, finished.encoded_media, finished.cached_media, finished.cached_tokens) == ("stop", 1, 0, 0)
    parts, again = _answer(handler, other)
    assert _text(parts) == SCENE.shapes[0].colour
    assert (again.encoded_media, again.cached_media, again.cached_tokens) == (0, 1, again.prompt_tokens - 1)


def test_the_questions_count_of_tokens_is_the_answers(handler: VisionHandler) -> None:
    prompt = ChatPrompt((said("What shape is it?", SCENE.image(), SCENE.image(96, 64)),))
    _, finished = _answer(handler, *prompt.messages)
    assert len(_tokens(handler, prompt)) == finished.prompt_tokens


def test_pictures_stand_where_they_were_put(handler: VisionHandler) -> None:
    file = png(SCENE.image())
    media = tuple(Media("image", file, at, f"part {at}") for at in (0, 5, 5, 9))
    tokens = _tokens(handler, ChatPrompt((Message("user", "abcdefghi", media=media),)))
    seen = "".join(handler.pieces(tokens)).replace("<|image_pad|>", "")
    picture = "<|vision_start|><|vision_end|>"
    assert f"{picture}abcde{picture}{picture}fghi{picture}<|im_end|>" in seen.replace("Ġ", " ")


def test_a_grammar_a_stop_string_and_tools_work_beside_pictures(handler: VisionHandler) -> None:
    look = said("Describe the shape as JSON.", SCENE.image())
    parts, _ = _answer(handler, look, max_tokens=60, grammar=Grammar("json_schema", SCHEMA, "response_format"))
    assert json.loads(_text(parts))["colour"] in ("red", "blue")
    word, *_ = _text(_answer(handler, said("Describe the picture.", SCENE.image()))[0]).split()[1:]
    parts, finished = _answer(handler, said("Describe the picture.", SCENE.image()), limits=Limits(stop=(word,)))
    assert (word in _text(parts), finished.stop) == (False, word)
    tool = Tool("paint", parameters=json.loads(SCHEMA))
    prompt = ChatPrompt((look,), (tool,))
    request = GenerationRequest((prompt,), 60, sampling=GREEDY, tool_use=ToolUse("required", parallel=False))
    parts, finished = _run(handler, request)
    assert finished.reason == "tool_calls"
    assert json.loads("".join(part.arguments for part in parts if isinstance(part, ToolCall)))["colour"] in (
        "red",
        "blue",
    )


def test_a_tools_result_may_be_a_picture(handler: VisionHandler) -> None:
    tool = Tool("look", parameters={"type": "object", "properties": {}})
    call = Message("assistant", "", tool_calls=(FunctionCall("call_1", "look", "{}"),))
    result = Message("tool", "", tool_call_id="call_1", media=said("", SCENE.image()).media)
    tokens = _tokens(handler, ChatPrompt((said("What is there?"), call, result), (tool,)))
    assert "<tool_response>Ċ<|vision_start|><|image_pad|>" in "".join(handler.pieces(tokens))


def test_an_answer_to_a_picture_can_be_gone_on_with(handler: VisionHandler) -> None:
    messages = (said("Describe the picture.", SCENE.image()), said("a red", role="assistant"))
    prompt = ChatPrompt(messages, continues_last=True)
    tokens = _tokens(handler, prompt)
    assert "".join(handler.pieces(tokens)).endswith("assistantĊaĠred")


def test_a_clients_template_is_given_pictures_as_parts(handler: VisionHandler) -> None:
    mark = "{% if part.type == 'image' %}<|image_pad|>{% endif %}"
    text = f"{{% for part in messages[0].content %}}[{{{{ part.type }}}}]{mark}{{% endfor %}}"
    prompt = ChatPrompt((said("Describe the picture.", SCENE.image()),), template=Template(text=text))
    written = "".join(handler.pieces(_tokens(handler, prompt)))
    assert written.replace("<|image_pad|>", "") == "[image][text]"
    assert written.count("<|image_pad|>") > 1


def test_what_the_model_cannot_take_is_refused(handler: VisionHandler) -> None:
    message = Message("user", "Listen.", media=(Media("audio", b"RIFF", 0, "messages[0].content[0]"),))
    with pytest.raises(InvalidRequest, match="takes no audio input") as caught:
        _prepare(handler, GenerationRequest((ChatPrompt((message,)),), 8))
    assert caught.value.param == "messages[0].content[0]"


def test_a_picture_that_is_none_is_refused(handler: VisionHandler) -> None:
    message = Message("user", "Look.", media=(Media("image", b"nothing", 0, "messages[0].content[0]"),))
    with pytest.raises(InvalidRequest) as caught:
        _prepare(handler, GenerationRequest((ChatPrompt((message,)),), 8))
    assert caught.value.param == "messages[0].content[0]"


def test_a_picture_that_the_models_processor_does_not_take_is_refused(handler: VisionHandler) -> None:
    sliver = Image.new("RGB", (2000, 4))
    with pytest.raises(InvalidRequest) as caught:
        _prepare(handler, GenerationRequest((ChatPrompt((said("Look.", sliver),)),), 8))
    assert caught.value.param == "messages[0].content[0]"


def test_a_marker_in_a_text_is_not_taken_for_a_picture(handler: VisionHandler) -> None:
    message = said("Is <|image_pad|> a picture?", SCENE.image())
    with pytest.raises(InvalidRequest, match=r"image_pad.*can't be text") as caught:
        _prepare(handler, GenerationRequest((ChatPrompt((message,), param="input"),), 8))
    assert caught.value.param == "input"


@pytest.mark.parametrize("text", ["<|video_pad|>", "<|vision_start|><|video_pad|><|vision_end|>"])
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_film_that_is_only_text_is_refused_beside_a_picture(handler: VisionHandler, role: str, text: str) -> None:
    messages = (Message(role, text), said("What shape is it?", SCENE.image()))
    with pytest.raises(InvalidRequest, match=r"'<\|video_pad\|>' marks a film.*can't be text") as caught:
        _prepare(handler, GenerationRequest((ChatPrompt(messages, param="input"),), 8))
    assert caught.value.param == "input"
    given = EmbeddingInput(f"a {text}", "input[0]", messages[1].media)
    with pytest.raises(InvalidRequest, match="marks a film") as caught:
        _prepare(handler, EmbeddingRequest((given,)))
    assert caught.value.param == "input[0]"


def test_placeholders_of_what_is_not_shown_are_no_text(handler: VisionHandler) -> None:
    """Also for a processor that does not tell how it marks them."""
    processor = copy.copy(handler._inputs._processor)
    processor.video_token = None
    config = SimpleNamespace(model_type="qwen3_vl")
    inputs = InputReader(processor, config, {5: "image", 6: "video"})
    media = handler.decode(said("", SCENE.image()).media)
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    assert inputs.read(picture, media, special=False, param="input")[1].told_apart
    with pytest.raises(InvalidRequest, match="marks a film"):
        inputs.read(f"{picture}<|video_pad|>", media, special=False, param="input")


def test_pictures_count_for_the_context(handler: VisionHandler) -> None:
    many = said("Look.", *[SCENE.image(128, 128)] * 300)
    with pytest.raises(InvalidRequest, match="4096 tokens") as caught:
        _prepare(handler, GenerationRequest((ChatPrompt((many,)),), 8))
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("shown_there", [True, False])
def test_a_picture_in_a_tools_result_is_seen(handler: VisionHandler, shown_there: bool) -> None:
    """Also where the template has no place for it there."""
    template = (SHAPES.parent / "chat_template.jinja").read_text()
    if not shown_there:
        template = template.replace("e>\\n' + said(message.content)", "e>\\n' + message.content")
    call = Message("assistant", "", tool_calls=(FunctionCall("1", "look", "{}"),))
    result = Message("tool", "Here: ", tool_call_id="1", media=(Media("image", png(SCENE.image()), 6, "messages[2]"),))
    prompt = ChatPrompt((Message("user", "What colour is the shape?"), call, result), template=Template(text=template))
    text = handler.text(_tokens(handler, prompt))
    assert ("shown after this result" in text) is not shown_there
    assert text.index("Here: ") < text.index("<|vision_start|>")
    _, finished = _run(handler, GenerationRequest((prompt,), 4, sampling=GREEDY))
    assert sum((finished.encoded_media, finished.cached_media)) == 1


def test_role_prefixes_have_no_place_for_pictures(handler: VisionHandler) -> None:
    prompt = ChatPrompt((said("Look.", SCENE.image()),), template=Template(roles={"user": "U: "}))
    with pytest.raises(InvalidRequest, match="no place"):
        _prepare(handler, GenerationRequest((prompt,), 8))


def test_a_text_completion_may_be_echoed_with_its_log_probabilities(handler: VisionHandler) -> None:
    request = GenerationRequest((TextPrompt("Hello!"),), 3, sampling=GREEDY, logprobs=1, echo=True)
    parts, finished = _run(handler, request)
    assert _text(parts).startswith("Hello!")
    reported = [chosen for part in parts if isinstance(part, Text) for chosen in part.logprobs]
    assert len(reported) == finished.prompt_tokens + finished.completion_tokens


def test_a_model_without_a_way_to_show_it_pictures_takes_none(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    said_only = "{{ m.content if m.content is string else m.content[-1].text }}"
    config["chat_template"] = f"{{%- for m in messages %}}{{{{ m.role }}}}\n{said_only}<|im_end|>\n{{%- endfor %}}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    handler, facts = _load(folder)
    assert facts.media == ()
    assert any("takes no pictures" in note for note in facts.notes)
    handler.close()


@pytest.mark.parametrize(
    ("family", "takes", "note"),
    [
        ("qwen2_vl", ("image", "video"), None),
        ("qwen3_5", ("image", "video"), "not continued: its cache can't be cut short"),
        ("gemma3", ("image",), "not continued: its cache can't be cut short"),
        ("mistral3", ("image",), "kept for those that come together"),
    ],
)
def test_each_family_does_what_it_was_found_to_take(
    tmp_path: Path, family: str, takes: tuple[str, ...], note: str | None
) -> None:
    """At the start each is compared with mlx-vlm's own unbatched loop; what differs is not done, and said."""
    handler, facts = _load(make_vision_model(tmp_path, family))
    notes = [one for one in facts.notes if "differently from transformers" not in one]
    assert (facts.rows, facts.media, len(notes)) == (4, takes, 0 if note is None else 1)
    assert note is None or note in notes[0]
    messages = (said("What is this?", SCENE.image(), SCENE.image(96, 64)),)
    counts = []
    for _ in range(2):
        _, finished = _answer(handler, *messages, max_tokens=6)
        counts.append((finished.encoded_media, finished.cached_media))
    assert sum(map(sum, counts)) == 4
    assert counts[1] == (0, 2)
    handler.close()


def test_a_model_of_texts_takes_no_pictures(tiny_model: Callable[[str], Path]) -> None:
    handler, facts = _load(tiny_model("llama"))
    assert (facts.media, facts.rows) == ((), 4)
    parts, _ = _answer(handler, said("fox"), max_tokens=4)
    assert _text(parts)
    with pytest.raises(InvalidRequest, match="takes no image input"):
        _prepare(handler, GenerationRequest((ChatPrompt((said("fox", SCENE.image()),)),), 8))
    handler.close()


def test_caches_without_room_are_not_used() -> None:
    handler, facts = _load(SHAPES, feature_cache_bytes=0, prefix_cache_bytes=0)
    for _ in range(2):
        _, finished = _answer(handler, said("What colour is the shape?", SCENE.image()))
        assert (finished.encoded_media, finished.cached_media, finished.cached_tokens) == (1, 0, 0)
    assert facts.notes == ()
    handler.close()


@pytest.mark.parametrize("flag", ["adapter_path", "adapter_dir", "draft_model"])
def test_what_does_not_work_with_pictures_is_said_at_the_start(flag: str) -> None:
    with pytest.raises(ModelLoadError, match="neither adapters nor a draft model"):
        _load(SHAPES, **{flag: "/somewhere"})


def test_flags_that_cannot_hold_for_pictures_are_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="--kv-bits"):
        _load(SHAPES, kv_bits=StateBits((8,)))
    with pytest.raises(ModelLoadError, match="--warm-prompt needs room"):
        _load(SHAPES, warm_prompt="Answer briefly.", prefix_cache_bytes=0)
    handler, facts = _load(SHAPES, prompt_cache_dir=str(tmp_path))
    handler.close()
    assert facts.notes == ("--prompt-cache-dir is for models of text: this one's prompts are kept in memory only",)


def test_a_warm_prompt_is_read_for_everybody() -> None:
    system = "Answer briefly, in one word, and in lower case letters only, please."
    handler, facts = _load(SHAPES, warm_prompt=system)
    messages = Message("system", system), said("What colour is the shape?", SCENE.image())
    _, finished = _answer(handler, *messages, tenant="a")
    assert finished.cached_tokens > 10
    assert facts.notes[0].endswith("tokens of --warm-prompt have been read")
    handler.close()


def test_code_in_a_models_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    (folder / "code.py").write_text(f"open({str(proof)!r}, 'w')")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_file": "code.py"}))
    with pytest.raises(ModelLoadError, match="never run"):
        _load(folder)
    (folder / "config.json").write_text(json.dumps(config))
    preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
    auto_map = {"AutoProcessor": "code.P", "AutoImageProcessor": "code.P", "AutoTokenizer": ["code.P", "code.P"]}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor | {"auto_map": auto_map}))
    handler, _ = _load(folder)
    handler.close()
    assert not proof.exists()


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"no config\.json"):
        _load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(ModelLoadError, match="does not know its type, 'nonesuch'"):
        _load(tmp_path)


def test_answers_end_with_the_tokens_of_generation_config(folder: Path) -> None:
    asked = said("What colour is the shape?", SCENE.image())
    handler, _ = _load(folder)
    request = GenerationRequest((ChatPrompt((asked,)),), 24, sampling=GREEDY)
    [sequence] = _prepare(handler, request)
    handler.engine.add(sequence)
    while handler.engine.busy:
        handler.engine.step()
    handler.close()
    first = sequence.emitted[0]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [first]}))
    handler, _ = _load(folder)
    parts, finished = _answer(handler, asked)
    handler.close()
    assert (_text(parts), finished.completion_tokens) == ("", 1)
