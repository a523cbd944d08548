from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from support.computing import Computing, close, cosines, embedding, scoring
from support.tiny.adapters import make_adapter
from support.tiny.models import make_model

from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest, Truncation
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import GenerationRequest, Media, Sampling, TextPrompt
from mlx_server.schemas.internal.messages import Vector
from mlx_server.workers.engine.sequence import Computed, Produced, Token
from mlx_server.workers.handlers.base import Handler

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def loaded(smollm2: Path) -> Iterator[Computing]:
    """SmolLM2, which writes text and embeds."""
    computing = Computing(smollm2, "lm")
    yield computing
    computing.handler.close()


def _directly(folder: Path, *texts: str) -> list[npt.NDArray[np.float32]]:
    """The mean of the last hidden states of each, by mlx-lm alone and without padding."""
    import mlx.core as mx
    from mlx_lm.utils import load_model, load_tokenizer

    model, _ = load_model(folder)
    model.set_dtype(mx.float32)
    tokenizer = load_tokenizer(folder)
    means = [np.array(model.model(mx.array([tokenizer.encode(text)]))[0]).mean(axis=0) for text in texts]
    return [mean / np.linalg.norm(mean) for mean in means]


def test_a_language_models_vectors_are_the_mean_of_its_last_hidden_states(loaded: Computing, smollm2: Path) -> None:
    assert (loaded.facts.dimensions, loaded.facts.scoring) == (576, "embedding_similarity")
    texts = ("Hi there", "A man is eating food.")
    vectors = loaded.vectors(*texts)
    assert cosines(vectors, _directly(smollm2, *texts)).min() > 0.9999
    assert close(loaded.scores(texts), [vectors[0] @ vectors[1]], 1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "mamba"])
def test_architectures_embed_the_same_together_as_alone(tiny_model: Callable[[str], Path], architecture: str) -> None:
    computing = Computing(tiny_model(architecture), "lm")
    assert computing.facts.dimensions == 64
    texts = ("the quick brown fox", "dog", "jumps over the lazy dog and over the fox")
    together = computing.vectors(*texts)
    assert close(together, [computing.vectors(text)[0] for text in texts], 1e-4)
    assert np.abs(together[0] - together[1]).max() > 0.01


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (embedding("a", dimensions=577), "dimensions"),
        (embedding("a", prompt_name="query"), "prompt_name"),
        (embedding("a", ""), "input[1]"),
        (embedding((49152,)), "input[0]"),
        (embedding((7,) * 8193), "input[0]"),
        (EmbeddingRequest((EmbeddingInput("a", "input[0]", (Media("image", b"", 0, "input[0]"),)),)), "input[0]"),
        (embedding("a", truncation=Truncation(9000)), "truncate_prompt_tokens"),
        (scoring(("a", "b"), instruction="be fair"), "instruction"),
    ],
)
def test_what_cannot_be_embedded_is_refused(loaded: Computing, request_: EmbeddingRequest, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        loaded.handler.prepare(1, request_)
    assert caught.value.param == param


def test_texts_are_embedded_between_the_steps_of_what_is_written(tiny_model: Callable[[str], Path]) -> None:
    handler = Computing(tiny_model("llama"), "lm", batch_tokens=16).handler
    request = GenerationRequest((TextPrompt("the quick brown fox"),), 12, sampling=Sampling(temperature=0.0))
    [alone] = handler.prepare(1, request)
    handler.engine.add(alone)
    expected = [item.token for item in _run(handler) if isinstance(item, Token)]
    [writing] = handler.prepare(2, request)
    [embeds] = handler.prepare(3, embedding(*(f"the quick brown fox {number}" for number in range(8))))
    handler.engine.add(writing)
    handler.engine.add(embeds)
    produced = _run(handler)
    kinds = [type(item) for item in produced]
    assert [item.token for item in produced if isinstance(item, Token)] == expected
    assert kinds.index(Token) < len(kinds) - 1 - kinds[::-1].index(Computed), "neither waits for the other's end"
    assert sum(len(item.results) for item in produced if isinstance(item, Computed)) == 8


def test_embeddings_are_made_with_the_default_adapter_whatever_was_worn_before(tmp_path: Path) -> None:
    folder = make_model(_made(tmp_path / "model"), "llama")
    one = make_adapter(folder, tmp_path / "adapters" / "one", seed=1)
    bare = Computing(folder, "lm").vectors("the quick brown fox")
    handler = Computing(folder, "lm", adapter_dir=str(tmp_path / "adapters")).handler
    [worn] = handler.prepare(1, GenerationRequest((TextPrompt("the fox"),), 3, adapter="one"))
    [embeds] = handler.prepare(2, embedding("the quick brown fox"))
    handler.engine.add(worn)
    handler.engine.step()
    handler.engine.add(embeds)
    [result] = [result for item in _run(handler) if isinstance(item, Computed) for result in item.results]
    assert isinstance(result, Vector)
    assert close(np.frombuffer(result.values, "<f4"), bare[0])
    default = Computing(folder, "lm", adapter_path=str(one)).vectors("the quick brown fox")
    assert not close(default, bare, 1e-3)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _run(handler: Handler) -> list[Produced]:
    produced: list[Produced] = []
    while handler.engine.busy:
        produced += handler.engine.step()
    return produced
