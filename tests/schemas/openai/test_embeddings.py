"""From the body of a request for embeddings to the work that is queued."""

import base64

import pytest

from mlx_server.schemas.internal.embedding import EmbeddingInput, Truncation
from mlx_server.schemas.internal.generation import Remote
from mlx_server.schemas.openai.embeddings import HARMLESS, EmbeddingsRequest, decoder
from mlx_server.schemas.parsing.parse import parse


def decoded(body: bytes) -> EmbeddingsRequest:
    given, unknown = parse(body, decoder, HARMLESS)
    assert unknown == []
    return given


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        (b'{"input": "a"}', [EmbeddingInput("a", "input")]),
        (b'{"input": ""}', [EmbeddingInput("", "input")]),
        (b'{"input": ["a", ""]}', [EmbeddingInput("a", "input[0]"), EmbeddingInput("", "input[1]")]),
        (b'{"input": [1, 2]}', [EmbeddingInput((1, 2), "input")]),
        (b'{"input": [[1, 2], [3]]}', [EmbeddingInput((1, 2), "input[0]"), EmbeddingInput((3,), "input[1]")]),
    ],
)
def test_every_form_of_input_becomes_named_inputs(body: bytes, inputs: list[EmbeddingInput]) -> None:
    assert list(decoded(body).to_work().inputs) == inputs


def test_many_token_ids_are_one_input() -> None:
    ids = tuple(range(5000))
    assert EmbeddingsRequest(input=list(ids)).to_work().inputs == (EmbeddingInput(ids, "input"),)


@pytest.mark.parametrize(
    ("fields", "truncation"),
    [
        (b"", None),
        (b', "truncate_prompt_tokens": null', None),
        (b', "truncate_prompt_tokens": -1', Truncation(None, "start")),
        (b', "truncate_prompt_tokens": 5', Truncation(5, "start")),
        (b', "truncate_prompt_tokens": 5, "truncation_side": "right"', Truncation(5, "start")),
        (b', "truncate_prompt_tokens": 5, "truncation_side": "left"', Truncation(5, "end")),
    ],
)
def test_side_that_is_cut_off_is_not_the_one_that_is_kept(fields: bytes, truncation: Truncation | None) -> None:
    assert decoded(b'{"input": "a"' + fields + b"}").to_work().truncation == truncation


def test_fields_reach_the_worker() -> None:
    work = decoded(b'{"input": "a", "dimensions": 3, "prompt_name": "query"}').to_work()
    assert (work.dimensions, work.prompt_name, work.prompt, work.input_type, work.rows) == (3, "query", None, None, 1)
    assert decoded(b'{"input": "a", "prompt": ""}').to_work().prompt == ""


def test_values_that_change_nothing_are_taken() -> None:
    decoded(b'{"input": "a", "normalize": true, "priority": 0, "embed_dtype": "float32", "stream": false}')


def test_picture_stands_before_the_text_it_belongs_to() -> None:
    uri = f"data:image/png;base64,{base64.b64encode(b'bytes').decode()}"
    [first, second] = EmbeddingsRequest(input=["a", "b"], image_url=[uri, uri]).to_work().inputs
    [picture] = second.media
    assert (picture.kind, picture.source, picture.at, picture.param) == ("image", Remote(uri), 0, "image_url[1]")
    assert first.media[0].param == "image_url[0]"
    for shared in EmbeddingsRequest(input=["a", "b"], image_url=uri).to_work().inputs:
        assert [media.param for media in shared.media] == ["image_url"]
