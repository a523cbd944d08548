import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.computing import Computing, close, embedding, scoring
from support.tiny.encoders import make_encoder, write_modules
from support.tiny.judges import make_judge
from support.tiny.numpy_bert import NumpyBert

from mlx_server.schemas.internal.embedding import Truncation
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.errors import ModelLoadError

pytestmark = pytest.mark.model

QUERY = "big cat"
PAIRS = (
    (QUERY, "the cat sat on the mat"),
    (QUERY, "a dog"),
    (QUERY, "red bird sees a fish in the house of the tree"),
    ("no", ""),
)


def _reranker(folder: Path, kind: str = "bert", **config: Any) -> Computing:
    return Computing(make_encoder(folder, kind, classifier=True, **config), "rerank")


def _refusal(computing: Computing, request: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        computing.handler.prepare(1, request)
    return caught.value


def _load_error(folder: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        Computing(folder, "rerank")
    return str(caught.value)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "modernbert"])
def test_scores_are_the_same_together_as_alone(kind: str, tmp_path: Path) -> None:
    computing = _reranker(tmp_path, kind)
    assert (computing.facts.scoring, computing.facts.dimensions) == ("cross_encoder", None)
    together = computing.scores(*PAIRS)
    assert all(0 < score < 1 for score in together)
    assert len({round(score, 4) for score in together}) == len(PAIRS)
    assert close(together, [computing.scores(pair)[0] for pair in PAIRS])


def test_scores_are_those_of_an_independent_bert(tmp_path: Path) -> None:
    computing, reference = _reranker(tmp_path), NumpyBert(tmp_path)
    handler = computing.handler
    for pair in PAIRS:
        [sequence] = handler.prepare(0, scoring(pair))
        [item] = sequence.items
        assert sum(item.types) == len(pair[1].split()) + 1, "the document is the second text"
        assert close(computing.scores(pair), [reference.score(list(item.ids), list(item.types))])


IDENTITY = "torch.nn.modules.linear.Identity"
NEWEST = "config_sentence_transformers.json"


def decided(folder: Path) -> Path:
    """The model with a classifier that says more than its random weights do, and to some pairs no."""
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] *= 400
    weights["classifier.bias"] = np.float32([400 * 0.04]) + 400 * weights["classifier.bias"]
    save_file(weights, folder / "model.safetensors", {"format": "mlx"})
    return folder


@pytest.mark.parametrize(
    ("config", "newest", "made"),
    [
        ({}, None, lambda x: 1 / (1 + np.exp(-x))),
        ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.1.0"}}, None, lambda x: x),
        ({"sbert_ce_default_activation_function": IDENTITY}, None, lambda x: x),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh"}, None, np.tanh),
        ({"sbert_ce_default_activation_function": None}, None, lambda x: 1 / (1 + np.exp(-x))),
        ({"sentence_transformers": {"activation_fn": IDENTITY}}, "Sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ({}, "ReLU", lambda x: np.maximum(x, 0)),
    ],
    ids=["none", "of version 4", "old", "tanh", "null", "newest goes first", "relu"],
)
def test_scores_are_made_with_the_activation_that_the_folder_names(
    tmp_path: Path, config: dict[str, Any], newest: str | None, made: Any
) -> None:
    folder = decided(make_encoder(tmp_path, "bert", classifier=True, **config))
    if newest is not None:
        activation = f"torch.nn.modules.activation.{newest}"
        (folder / NEWEST).write_text(json.dumps({"activation_fn": activation, "prompts": {}}))
    computing, reference = Computing(folder, "rerank"), NumpyBert(folder)
    sequences = [computing.handler.prepare(0, scoring(pair))[0] for pair in PAIRS]
    scores = [reference.score(list(one.items[0].ids), list(one.items[0].types)) for one in sequences]
    logits = np.log(scores) - np.log1p(-np.array(scores))
    assert min(logits) < -1
    assert max(logits) > 1
    assert close(computing.scores(*PAIRS), made(logits), 1e-3)


@pytest.mark.parametrize("name", ["torch.nn.modules.activation.Softplus", "their.own.Sigmoid"])
def test_an_activation_that_is_not_served_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    folder = make_encoder(tmp_path, "bert", classifier=True, sentence_transformers={"activation_fn": name})
    assert f"activation '{name}', and only Identity, ReLU, Sigmoid, Tanh" in _load_error(folder)


def test_usage_counts_the_query_with_each_document(tmp_path: Path) -> None:
    [told] = _reranker(tmp_path).ask(scoring(*PAIRS))
    assert told.finished is not None
    assert told.finished.prompt_tokens == sum(len(f"{q} {d}".split()) + 3 for q, d in PAIRS)


def test_pairs_that_are_too_long_are_refused_or_lose_the_documents_end(tmp_path: Path) -> None:
    computing = _reranker(tmp_path)
    long = " ".join(["dog sees", *["fish"] * 80])
    assert "`documents[0]` has 87 tokens; this model takes 64" in _refusal(computing, scoring((QUERY, long))).message
    assert close(
        computing.scores((QUERY, long), truncation=Truncation(9)), computing.scores((QUERY, "dog sees fish fish"))
    )
    assert close(
        computing.scores((QUERY, long), truncation=Truncation(9, "end")), computing.scores((QUERY, "fish " * 4))
    )


def test_a_query_is_never_cut(tmp_path: Path) -> None:
    refusal = _refusal(_reranker(tmp_path), scoring(("cat " * 62, "dog sees fish"), truncation=Truncation()))
    assert (refusal.param, refusal.code) == ("query", "context_length_exceeded")


@pytest.mark.parametrize(
    ("pair", "truncation", "param", "words"),
    [
        (("cat " * 62, "dog"), None, "query", "has 65 tokens; this model takes 64"),
        (("cat " * 60, "dog " * 9), None, "documents[0]", "has 72 tokens; this model takes 64"),
        (("cat " * 9000, "dog"), Truncation(), "query", "characters; this model takes 64 tokens"),
        (("cat", "dog " * 9000), None, "documents[0]", "characters; this model takes 64 tokens"),
        (("cat " * 7, "dog"), Truncation(9), "query", "at most 9 tokens are allowed here (`truncate_prompt_tokens`)"),
        (
            ("cat " * 62, "dog"),
            Truncation(9, param="max_tokens_per_doc"),
            "query",
            "has 65 tokens; this model takes 64",
        ),
    ],
)
def test_what_is_too_long_of_a_pair_is_told(
    tmp_path: Path, pair: tuple[str, str], truncation: Truncation | None, param: str, words: str
) -> None:
    refusal = _refusal(_reranker(tmp_path), scoring(pair, truncation=truncation))
    assert (refusal.param, refusal.code) == (param, "context_length_exceeded")
    assert words in refusal.message


@pytest.mark.parametrize("allowed", [1, 3, 5])
def test_what_a_document_may_have_is_its_own_whatever_the_query_takes(tmp_path: Path, allowed: int) -> None:
    computing = _reranker(tmp_path)
    query, words = "cat " * 20, ["dog", "sees", "fish", "on", "mat"]
    first = computing.scores((query, " ".join(words)), truncation=Truncation(allowed, param="max_tokens_per_doc"))
    assert close(first, computing.scores((query, " ".join(words[:allowed]))))
    last = computing.scores((query, " ".join(words)), truncation=Truncation(allowed, "end", "max_tokens_per_doc"))
    assert close(last, computing.scores((query, " ".join(words[-allowed:]))))


def test_a_document_may_be_allowed_more_than_the_model_takes(tmp_path: Path) -> None:
    computing = _reranker(tmp_path)
    pair = (QUERY, "fish " * 9000)
    assert close(
        computing.scores(pair, truncation=Truncation(4096, param="max_tokens_per_doc")),
        computing.scores(pair, truncation=Truncation()),
    )
    assert _refusal(computing, scoring(pair, truncation=Truncation(4096))).param == "truncate_prompt_tokens"


def test_pairs_that_are_the_same_are_computed_once_and_score_the_same(tmp_path: Path) -> None:
    computing = _reranker(tmp_path)
    [told] = computing.ask(scoring(*PAIRS, *reversed(PAIRS), PAIRS[0]))
    assert told.scores == [*told.scores[:4], *reversed(told.scores[:4]), told.scores[0]]
    assert close(told.scores[:4], computing.scores(*PAIRS))
    assert told.finished is not None
    assert told.finished.prompt_tokens == sum(len(f"{q} {d}".split()) + 3 for q, d in PAIRS)


@pytest.mark.parametrize(
    ("request_", "param"),
    [(scoring(PAIRS[0], instruction="be fair"), "instruction"), (embedding("cat"), "model")],
)
def test_what_a_classifier_does_not_do_is_refused(tmp_path: Path, request_: Any, param: str) -> None:
    assert _refusal(_reranker(tmp_path), request_).param == param


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architectures": ["BertModel"]}, "--model-type embeddings"),
        ({"num_labels": 3}, "tells 3 classes apart"),
        ({"id2label": {"0": "no", "1": "yes"}}, "tells 2 classes apart"),
        ({"model_type": "roberta"}, "'roberta', which is no reranker here"),
        ({"model_type": "qwen3"}, "is a classifier of type 'qwen3'"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "never run"),
    ],
)
def test_models_that_are_no_rerankers_are_refused_with_the_reason(
    tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    folder = make_encoder(tmp_path, "bert", classifier=True)
    whole = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(whole | config))
    assert words in _load_error(folder)


def test_an_embedding_model_is_sent_to_its_own_type(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path, "qwen3")
    write_modules(folder, "Pooling", pooling={"pooling_mode": "lasttoken"})
    assert "serve it with --model-type embeddings" in _load_error(folder)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Computing:
    """A random Qwen3."""
    return Computing(make_judge(tmp_path_factory.mktemp("judge")), "rerank")


def test_a_judge_scores_together_as_alone(judge: Computing) -> None:
    together = judge.scores(*PAIRS)
    assert all(0 < score < 1 for score in together)
    assert len(set(together)) == len(PAIRS)
    assert close(together, [judge.scores(pair)[0] for pair in PAIRS])


def test_a_judges_score_is_how_much_more_likely_yes_is_than_no(judge: Computing, tmp_path: Path) -> None:
    import mlx.core as mx
    from mlx_lm.utils import load_model, load_tokenizer

    folder = make_judge(tmp_path)
    model, _ = load_model(folder)
    tokenizer = load_tokenizer(folder)
    text = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct"
        ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        "<Instruct>: be fair\n<Query>: big cat\n<Document>: a dog<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>"
        "\n\n"
    )
    logits = np.array(model(mx.array([tokenizer.encode(text)]))[0, -1])
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    expected = 1 / (1 + np.exp(logits[no] - logits[yes]))
    assert close(judge.scores((QUERY, "a dog"), instruction="be fair"), [expected], 1e-4)


def test_a_judges_instruction_matters(judge: Computing) -> None:
    assert not close(judge.scores(*PAIRS), judge.scores(*PAIRS, instruction="be fair"), 1e-4)


def test_a_judge_reads_the_beginning_or_the_end_of_a_long_document(judge: Computing) -> None:
    document = "the quick brown fox jumps over the lazy dog " * 40
    refusal = _refusal(judge, scoring((QUERY, document)))
    assert (refusal.param, refusal.code) == ("documents[0]", "context_length_exceeded")
    pairs = (QUERY, document + "cat"), (QUERY, document + "dog")
    [start] = judge.handler.prepare(1, scoring(*pairs, truncation=Truncation()))
    [end] = judge.handler.prepare(1, scoring(*pairs, truncation=Truncation(keep="end")))
    assert (len(start.items), len(end.items)) == (1, 2), "what was cut off makes no difference"
    assert start.items[0].ids[:100] == end.items[0].ids[:100], "the instruction and the query stay"
    assert {len(item.ids) for item in (*start.items, *end.items)} == {512}
    [told] = judge.ask(scoring((QUERY, document), truncation=Truncation(400)))
    assert told.finished is not None
    assert told.finished.prompt_tokens == 400


def test_a_judge_reads_as_much_of_a_document_as_that_may_have(judge: Computing) -> None:
    document, query = "the quick brown fox jumps over the lazy dog", "big cat " * 10
    one, start, end, whole = (
        judge.handler.prepare(1, scoring((query, document), truncation=truncation))[0].items[0].ids
        for truncation in (
            Truncation(1, param="max_tokens_per_doc"),
            Truncation(7, "start", "max_tokens_per_doc"),
            Truncation(7, "end", "max_tokens_per_doc"),
            None,
        )
    )
    assert len(start) == len(end) == len(one) + 6 < len(whole)
    gone = len(whole) - len(start)
    cuts = {whole[:at] + whole[at + gone :]: at for at in range(len(start) + 1)}
    assert cuts[start] == cuts[end] + 7, "the last tokens of the document went, and the first ones"


def test_a_judge_never_cuts_a_query(judge: Computing) -> None:
    refusal = _refusal(judge, scoring(("the quick brown fox " * 90, "a dog"), truncation=Truncation()))
    assert refusal.param == "query"
    long = "the quick brown fox " * 90
    assert _refusal(judge, scoring((long, "a dog"))).param == "query"
    refusal = _refusal(judge, scoring((QUERY, long * 1000)))
    assert (refusal.param, refusal.code) == ("documents[0]", "context_length_exceeded")
