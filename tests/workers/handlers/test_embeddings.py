import json
import shutil
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.computing import SENTENCES, Computing, close, cosines, embedding, scoring
from support.tiny.encoders import CONFIGS, make_encoder, write_modules, write_prompts
from support.tiny.numpy_bert import NumpyBert

from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest, Truncation
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import (
    ChatPrompt,
    GenerationRequest,
    Media,
    Message,
    TextPrompt,
    TokenPrompt,
    ToolUse,
)
from mlx_server.workers.engine.embed.encoder_models import import_architecture
from mlx_server.workers.errors import ModelLoadError

pytestmark = pytest.mark.model

TEXTS = ("the cat sat on the mat", "a dog", "big red bird sees a fish in the house of the tree", "yes", "no no")


@pytest.fixture(scope="module")
def loaded(minilm: Path) -> Iterator[Computing]:
    """all-MiniLM-L6-v2."""
    computing = Computing(minilm)
    yield computing
    computing.handler.close()


def _refusal(computing: Computing, request: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        computing.handler.prepare(1, request)
    return caught.value


def _load_error(folder: Path, model_type: str = "embeddings") -> str:
    with pytest.raises(ModelLoadError) as caught:
        Computing(folder, model_type)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_load_tells_what_the_model_is(loaded: Computing) -> None:
    facts = loaded.facts
    assert (facts.architecture, facts.dimensions, facts.scoring) == ("bert", 384, "embedding_similarity")
    assert (facts.context_length, facts.vocab_size, facts.rows) == (256, 30522, 8)
    assert facts.parameter_bytes > 90_000_000


def test_vectors_are_those_of_an_independent_bert(loaded: Computing, minilm: Path) -> None:
    reference = NumpyBert(minilm)
    expected = [reference.mean_vector(loaded.ids(text)) for text in SENTENCES]
    vectors = loaded.vectors(*SENTENCES)
    assert cosines(vectors, expected).min() > 0.9999
    assert close(vectors, expected)
    assert close(np.linalg.norm(vectors, axis=-1), 1)


def test_similar_sentences_have_similar_vectors(loaded: Computing) -> None:
    food, eats, baby = loaded.vectors("A man is eating food.", "A man eats something.", "The girl is carrying a baby.")
    assert cosines(food, eats) > 0.8
    assert cosines(food, baby) < 0.2


def test_vectors_are_the_same_together_as_alone_and_in_order(loaded: Computing) -> None:
    together = loaded.vectors(*SENTENCES)
    assert close(together, [loaded.vectors(text)[0] for text in SENTENCES])
    apart = [told.vectors[0] for told in loaded.ask(*(embedding(text) for text in SENTENCES))]
    assert close(together, apart)


def test_usage_counts_every_token_that_is_computed(loaded: Computing) -> None:
    [told] = loaded.ask(embedding("hello world", (101, 7592, 102), ""))
    assert told.finished is not None
    assert (told.finished.prompt_tokens, told.finished.completion_tokens, told.finished.reason) == (
        4 + 3 + 2,
        0,
        "stop",
    )


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("cat " * 100_000, "400000 characters; this model takes 256 tokens"),
        ("cat" * 3000, "at least 500 tokens; this model takes 256"),
        ("cat" * 3000 + " " * 300, "at least 500 tokens; this model takes 256"),
    ],
)
def test_texts_that_cannot_fit_are_refused_by_their_characters(loaded: Computing, text: str, has: str) -> None:
    refusal = _refusal(loaded, embedding("a", text))
    assert (refusal.param, refusal.code) == ("input[1]", "context_length_exceeded")
    assert has in refusal.message


def test_spaces_that_make_no_tokens_are_no_reason_to_refuse(loaded: Computing) -> None:
    assert loaded.ids("a" + " " * 6000 + "cat") == loaded.ids("a cat")


@pytest.mark.parametrize("keep", ["start", "end"])
def test_of_a_long_text_only_a_part_is_tokenised(loaded: Computing, keep: Any) -> None:
    far = f"cat{' ' * 100_000}" if keep == "end" else f"{' ' * 100_000}cat"
    assert close(loaded.vectors(far, truncation=Truncation(9, keep)), loaded.vectors(""))
    near = f"{' ' * 1000}cat{' ' * 1000}"
    assert close(loaded.vectors(near, truncation=Truncation(9, keep)), loaded.vectors("cat"))


def test_many_texts_are_tokenised_as_each_alone(loaded: Computing) -> None:
    texts = [f"{'cat ' * (number % 7)}{number}" for number in range(150)]
    [sequence] = loaded.prepare(0, embedding(*texts))
    assert [list(item.ids) for item in sequence.items] == [loaded.ids(text) for text in texts]


def test_token_ids_are_taken_as_they_are(loaded: Computing) -> None:
    ids = tuple(loaded.ids("hello world"))
    assert close(loaded.vectors(ids), loaded.vectors("hello world"))


def test_an_empty_text_is_what_the_tokenizer_makes_of_it(loaded: Computing) -> None:
    assert close(loaded.vectors(""), loaded.vectors((101, 102)))


def test_dimensions_cut_the_vector_and_bring_it_to_length_1(loaded: Computing) -> None:
    whole, cut = loaded.vectors("hello")[0], loaded.vectors("hello", dimensions=64)[0]
    assert close(cut, whole[:64] / np.linalg.norm(whole[:64]))
    assert close(loaded.vectors("hello", dimensions=384), [whole])


@pytest.mark.parametrize(
    ("request_", "param", "words"),
    [
        (embedding("a", dimensions=385), "dimensions", "from 1 to 384"),
        (embedding("a", "cat " * 400), "input[1]", "has 402 tokens; this model takes 256"),
        (embedding((7,) * 257), "input[0]", "has 257 tokens; this model takes 256"),
        (embedding((1, 30522)), "input[0]", "30522 is not in the vocabulary"),
        (embedding((-1, 2)), "input[0]", "-1 is not in the vocabulary"),
        (embedding(()), "input[0]", "is empty"),
        (embedding("a", truncation=Truncation(257)), "truncate_prompt_tokens", "takes 256 tokens at most"),
        (embedding("hello there", truncation=Truncation(2)), "truncate_prompt_tokens", "larger than 2"),
        (embedding("a", prompt_name="query"), "prompt_name", "it has none"),
        (embedding("a", input_type="questions"), "input_type", "one of"),
        (scoring(("a", "b"), instruction="be fair"), "instruction", "rerankers"),
        (scoring(("a", "cat " * 400)), "documents[0]", "402 tokens"),
        (scoring(("cat " * 400, "a"), truncation=Truncation()), "query", "402 tokens; this model takes 256"),
        (scoring(("a", "b"), truncation=Truncation(257)), "truncate_prompt_tokens", "takes 256 tokens at most"),
        (scoring(("a", "b"), truncation=Truncation(2, param="max_tokens_per_doc")), "max_tokens_per_doc", "than 2"),
        (GenerationRequest((TextPrompt("a"),), 3), "model", "writes no text"),
        (
            EmbeddingRequest((EmbeddingInput("a", "input[0]", (Media("image", b"", 0, "input[0].image"),)),)),
            "input[0].image",
            "texts only",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused(loaded: Computing, request_: Any, param: str, words: str) -> None:
    refusal = _refusal(loaded, request_)
    assert refusal.param == param
    assert words in refusal.message


def test_an_input_that_is_too_long_is_told_as_such(loaded: Computing) -> None:
    refusal = _refusal(loaded, embedding("cat " * 698))
    assert refusal.code == "context_length_exceeded"
    assert refusal.message == (
        "`input[0]` has 700 tokens; this model takes 256. Shorten it or send truncate_prompt_tokens."
    )


@pytest.mark.parametrize(
    ("truncation", "words"),
    [
        (Truncation(), slice(0, 254)),
        (Truncation(5), slice(0, 3)),
        (Truncation(5, "end"), slice(297, 300)),
        (Truncation(keep="end"), slice(46, 300)),
    ],
)
def test_truncation_keeps_one_side_and_the_special_tokens(
    loaded: Computing, truncation: Truncation, words: slice
) -> None:
    letters = [string.ascii_lowercase[number * number % 26] for number in range(300)]
    cut = loaded.vectors(" ".join(letters), "short", truncation=truncation)
    assert close(cut, loaded.vectors(" ".join(letters[words]), "short"))


def test_truncation_of_token_ids_keeps_what_it_says(loaded: Computing) -> None:
    ids = tuple(range(1000, 1300))
    assert close(loaded.vectors(ids, truncation=Truncation()), loaded.vectors(ids[:256]))
    assert close(loaded.vectors(ids, truncation=Truncation(9, "end")), loaded.vectors(ids[-9:]))


def test_scores_are_cosines_and_each_text_is_computed_once(loaded: Computing) -> None:
    query, documents = SENTENCES[0], SENTENCES[1:]
    vectors = loaded.vectors(*SENTENCES)
    [told] = loaded.ask(scoring(*((query, document) for document in documents), (query, query)))
    assert close(told.scores, [*(vectors[1:] @ vectors[0]), 1])
    assert told.finished is not None
    assert told.finished.prompt_tokens == sum(len(loaded.ids(text)) for text in SENTENCES)


def test_only_documents_are_cut_and_by_as_much_as_the_model_takes(loaded: Computing) -> None:
    query, document = "the cat sat on the mat", "a dog sleeps in the house"
    per_document = Truncation(4, param="max_tokens_per_doc")
    assert close(loaded.scores((query, document), truncation=per_document), loaded.scores((query, "a dog")))
    assert close(loaded.scores((query, query), truncation=per_document), loaded.scores((query, "the cat")))
    most = Truncation(4096, param="max_tokens_per_doc")
    assert close(
        loaded.scores((query, "dog " * 300), truncation=most), loaded.scores((query, "dog " * 254)), tolerance=1e-5
    )


def test_no_cosine_is_more_than_1(loaded: Computing) -> None:
    scores = loaded.scores(*((text, text) for text in (*SENTENCES, *TEXTS)))
    assert close(scores, [1] * len(scores))
    assert max(scores) <= 1


def test_the_tokenizer_answers_questions(loaded: Computing) -> None:
    handler = loaded.handler
    assert handler.tokens(TextPrompt("hello world"), ToolUse()) == [101, 7592, 2088, 102]
    assert handler.tokens(TextPrompt("hello world", special=False), ToolUse()) == [7592, 2088]
    assert handler.tokens(TokenPrompt((5, 6)), ToolUse()) == [5, 6]
    assert handler.pieces([101, 7592]) == ["[CLS]", "hello"]
    assert handler.text([7592, 2088]) == "hello world"
    assert handler.text([]) == ""
    with pytest.raises(InvalidRequest, match="no conversations"):
        handler.tokens(ChatPrompt((Message("user", "hi"),)), ToolUse())
    with pytest.raises(InvalidRequest, match="vocabulary"):
        handler.text([30522])


@pytest.mark.parametrize("kind", CONFIGS)
def test_architectures_compute_the_same_together_as_alone(kind: str, tmp_path: Path) -> None:
    computing = Computing(make_encoder(tmp_path, kind))
    assert computing.facts.architecture == kind
    together = computing.vectors(*TEXTS)
    assert together.shape == (len(TEXTS), computing.facts.dimensions)
    assert close(together, [computing.vectors(text)[0] for text in TEXTS])
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_positions_of_xlm_roberta_begin_after_the_padding(tmp_path: Path) -> None:
    computing = Computing(make_encoder(tmp_path, "xlm-roberta"))
    assert computing.facts.context_length == 62
    assert np.isfinite(computing.vectors("cat " * 60)).all()
    assert "63 tokens" in _refusal(computing, embedding("cat " * 61)).message


def test_a_gemma_has_its_dense_layers_in_folders(tmp_path: Path) -> None:
    import mlx.core as mx

    folder = make_encoder(tmp_path, "gemma3_text")
    before = Computing(folder).vectors(*TEXTS)
    weights = mx.load(str(folder / "model.safetensors"))
    settings = {"activation_function": "torch.nn.modules.linear.Identity"}
    for number in (0, 1):
        (folder / f"{number + 2}_Dense").mkdir()
        linear = {"linear.weight": weights.pop(f"dense.{number}.weight")}
        mx.save_safetensors(str(folder / f"{number + 2}_Dense" / "model.safetensors"), linear)
        (folder / f"{number + 2}_Dense" / "config.json").write_text(json.dumps(settings))
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    assert close(Computing(folder).vectors(*TEXTS), before)
    write_modules(folder, "Pooling", "Dense", "Dense", "Normalize", pooling={"pooling_mode": "mean"})
    assert close(Computing(folder).vectors(*TEXTS), before)


@pytest.mark.parametrize(("window", "notes"), [(64, 0), (16, 1)])
def test_a_gemma_whose_window_is_not_kept_to_says_so(tmp_path: Path, window: int, notes: int) -> None:
    folder = make_encoder(tmp_path, "gemma3_text", sliding_window=window, use_bidirectional_attention=True)
    assert len(Computing(folder).facts.notes) == notes


@pytest.mark.parametrize(
    ("pooling", "pick"),
    [
        ({"pooling_mode_cls_token": True}, lambda h: h[0]),
        ({"pooling_mode": "lasttoken"}, lambda h: h[-1]),
        ({"pooling_mode_mean_tokens": True}, lambda h: h.mean(axis=0)),
        ({"pooling_mode_max_tokens": True}, lambda h: h.max(axis=0)),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, lambda h: h.sum(axis=0) / np.sqrt(len(h))),
        (
            {"pooling_mode_weightedmean_tokens": True},
            lambda h: np.average(h, axis=0, weights=np.arange(1, len(h) + 1)),
        ),
        (
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            lambda h: np.concatenate([h[0], h.mean(axis=0)]),
        ),
    ],
)
def test_pooling_is_what_the_files_say(tmp_path: Path, pooling: dict[str, Any], pick: Any) -> None:
    folder = make_encoder(tmp_path, "bert")
    write_modules(folder, "Pooling", pooling=pooling)
    computing, reference = Computing(folder), NumpyBert(folder)
    expected = [pick(reference.hidden_states(computing.ids(text))) for text in TEXTS]
    assert close(computing.vectors(*TEXTS), expected, 1e-4)


@pytest.mark.parametrize("kind", ["bert", "gemma3_text"])
def test_a_pooling_that_no_file_says_is_assumed_aloud_where_models_differ(tmp_path: Path, kind: str) -> None:
    folder = make_encoder(tmp_path, kind)
    assert any("mean is assumed" in note for note in Computing(folder).facts.notes) == (kind == "bert")
    write_modules(folder, "Pooling", "Normalize")
    if kind == "bert":
        assert f"{folder / '1_Pooling' / 'config.json'} is missing" in _load_error(folder)
        write_modules(folder, "Pooling", "Normalize", pooling={"pooling_mode": "cls"})
    assert not any("assumed" in note for note in Computing(folder).facts.notes)


def test_vectors_have_length_1_if_the_files_say_so_or_nothing(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path, "bert")
    without_files = Computing(folder).vectors(*TEXTS)
    write_modules(folder, "Pooling", pooling={"pooling_mode": "mean"})
    raw = Computing(folder).vectors(*TEXTS)
    write_modules(folder, "Pooling", "Normalize", pooling={"pooling_mode": "mean"})
    normalised = Computing(folder).vectors(*TEXTS)
    assert np.abs(np.linalg.norm(raw, axis=-1) - 1).min() > 0.01
    assert close(normalised, raw / np.linalg.norm(raw, axis=-1, keepdims=True))
    assert close(without_files, normalised)


@pytest.mark.parametrize(("activation", "function"), [("Tanh", np.tanh), ("Identity", lambda x: x)])
def test_dense_layers_follow_the_pooling(tmp_path: Path, activation: str, function: Any) -> None:
    import mlx.core as mx

    folder = make_encoder(tmp_path, "bert")
    write_modules(folder, "Pooling", pooling={"pooling_mode": "cls"})
    pooled = Computing(folder).vectors(*TEXTS)
    write_modules(folder, "Pooling", "Dense", "Normalize")
    weight, bias = mx.random.normal((8, 32)), mx.random.normal((8,))
    (folder / "2_Dense").mkdir()
    mx.save_safetensors(str(folder / "2_Dense" / "model.safetensors"), {"linear.weight": weight, "linear.bias": bias})
    settings = {"activation_function": f"torch.nn.modules.activation.{activation}"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(settings))
    computing = Computing(folder)
    expected = function(pooled @ np.array(weight).T + np.array(bias))
    assert computing.facts.dimensions == 8
    assert close(computing.vectors(*TEXTS), expected / np.linalg.norm(expected, axis=-1, keepdims=True))


def test_the_files_limit_and_lower_case_the_texts(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path, "bert")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 7, "do_lower_case": True}))
    computing = Computing(folder)
    assert computing.facts.context_length == 7
    assert close(computing.vectors("The CAT"), computing.vectors("the cat"))
    assert "has 8 tokens; this model takes 7" in _refusal(computing, embedding(TEXTS[0])).message


@pytest.mark.parametrize(
    ("how", "prompt"),
    [
        ({}, "a "),
        ({"prompt": ""}, ""),
        ({"prompt": "red "}, "red "),
        ({"prompt_name": "query"}, "yes "),
        ({"input_type": "query"}, "yes "),
        ({"input_type": "search_query"}, "yes "),
        ({"input_type": "document"}, "no "),
        ({"input_type": "RETRIEVAL_DOCUMENT"}, "no "),
        ({"input_type": "plain"}, "a "),
        ({"input_type": "clustering"}, ""),
    ],
)
def test_prompts_stand_before_texts_and_never_before_ids(tmp_path: Path, how: dict[str, str], prompt: str) -> None:
    plain = Computing(make_encoder(tmp_path, "bert"))
    expected = plain.vectors(f"{prompt}cat", (0, 5, 2))
    write_prompts(tmp_path, "plain", plain="a ", query="yes ", passage="no ")
    computing = Computing(tmp_path)
    assert close(computing.vectors("cat", **how), expected[:1])
    if how and prompt:
        refusal = _refusal(computing, embedding("cat", (0, 5, 2), **how))
        assert [refusal.param] == list(how)
        assert "token ids are taken as they are" in refusal.message
    else:
        assert close(computing.vectors("cat", (0, 5, 2), **how), expected)


def test_scores_use_the_models_prompts_for_queries_and_documents(tmp_path: Path) -> None:
    plain = Computing(make_encoder(tmp_path, "bert"))
    expected = plain.scores(("yes cat", "no dog"), ("yes cat", "no cat"))
    write_prompts(tmp_path, query="yes ", document="no ")
    assert close(Computing(tmp_path).scores(("cat", "dog"), ("cat", "cat")), expected)


def test_an_unknown_prompt_name_is_answered_with_those_there_are(tmp_path: Path) -> None:
    write_prompts(make_encoder(tmp_path, "bert"), query="yes ", passage="no ")
    refusal = _refusal(Computing(tmp_path), embedding("cat", prompt_name="doc"))
    assert refusal.param == "prompt_name"
    assert "it has passage, query" in refusal.message


def in_float16(folder: Path) -> Path:
    """The folder with its weights as float16."""
    import mlx.core as mx

    file = str(folder / "model.safetensors")
    halves = {name: array.astype(mx.float16) for name, array in mx.load(file).items()}
    mx.eval(halves)
    mx.save_safetensors(file, halves, {"format": "mlx"})
    return folder


@pytest.mark.parametrize("longest", [64, 128, 160, 256])
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_vectors_in_half_precision_are_nearly_those_in_full(tmp_path: Path, kind: str, longest: int) -> None:
    folder = in_float16(make_encoder(tmp_path, kind, max_position_embeddings=512, num_hidden_layers=4))
    texts = ["cat " * (longest - 2), "the dog sat on the mat", "no", "red bird " * 20]
    half, full = Computing(folder, cpu_dtype="native"), Computing(folder)
    assert [len(half.ids(text)) for text in texts] == [longest, 8, 3, 42]
    assert close(cosines(half.vectors(*texts), full.vectors(*texts)), 1, 1e-3)


def test_modernberts_own_masks_are_still_too_large_for_float16() -> None:
    """As soon as this fails, `half_masks` can go."""
    import mlx.core as mx

    config = {"model_type": "modernbert", "vocab_size": 30, **CONFIGS["modernbert"]}
    module = import_architecture("modernbert")
    masks = module.Model(module.ModelConfig.from_dict(config))._masks(mx.array([[1, 0]]), mx.float16)
    assert all(mx.isinf(mask).any().item() for mask in masks)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "roberta"}, "'roberta', which is not served here; bert, xlm-roberta, modernbert, qwen3"),
        ({"model_type": "nomic_bert"}, "not served here"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map names code of its own, which is never run"),
        ({"model_file": "evil.py"}, "model_file names code of its own, which is never run"),
        ({"hidden_act": "relu"}, "activation 'relu'"),
        ({"architectures": ["BertForSequenceClassification"]}, "--model-type rerank"),
        ({"hidden_size": 64}, "can't be loaded"),
    ],
)
def test_models_that_are_not_served_are_refused_with_the_reason(
    tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    folder = make_encoder(tmp_path, "bert")
    whole = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(whole | config))
    assert words in _load_error(folder)


@pytest.mark.parametrize(
    ("kinds", "pooling", "words"),
    [
        (("Dense",), None, "a vector for each token"),
        (("LSTM", "Pooling"), None, "its modules are Transformer, LSTM, Pooling"),
        (("Pooling", "LSTM"), None, "its modules are Transformer, Pooling, LSTM"),
        (("Pooling",), {"pooling_mode": "median"}, "'median' is not served"),
        (("Pooling",), {"pooling_mode": "mean", "include_prompt": False}, "include_prompt"),
        (("Pooling", "Dense"), {"pooling_mode": "mean"}, "2_Dense/config.json can't be read"),
    ],
)
def test_modules_that_are_not_served_are_refused_with_the_reason(
    tmp_path: Path, kinds: tuple[str, ...], pooling: dict[str, Any] | None, words: str
) -> None:
    folder = make_encoder(tmp_path, "bert")
    write_modules(folder, *kinds, pooling=pooling)
    assert words in _load_error(folder)


def test_modules_stay_inside_the_models_folder(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "model", "bert")
    (folder / "modules.json").write_text(json.dumps([{"path": "../elsewhere", "type": "x.Transformer"}]))
    assert "outside the model's folder" in _load_error(folder)


def test_a_folder_without_its_files_is_refused(tmp_path: Path) -> None:
    assert "no config.json" in _load_error(tmp_path)
    folder = make_encoder(tmp_path / "model", "bert")
    (folder / "model.safetensors").unlink()
    assert "no weights" in _load_error(folder)
    shutil.copytree(make_encoder(tmp_path / "other", "bert"), folder, dirs_exist_ok=True)
    (folder / "tokenizer.json").unlink()
    assert "tokenizer" in _load_error(folder)


def test_an_encoder_that_is_served_as_a_writer_is_sent_to_its_own_type(tmp_path: Path) -> None:
    assert "--model-type embeddings or rerank" in _load_error(make_encoder(tmp_path, "modernbert"), "lm")


def test_where_the_library_is_missing_the_command_that_installs_it_is_told() -> None:
    with pytest.raises(ModelLoadError, match=r"pip install 'mlx-vlm"):
        import_architecture("of_no_version")
