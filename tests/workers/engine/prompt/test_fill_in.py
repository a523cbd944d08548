from pathlib import Path

import pytest
from support.templates import with_template

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.engine.prompt.fill_in import KNOWN, FillInMarks, fill_in

pytestmark = pytest.mark.model
PREFIX, SUFFIX = "def add(a, b):\n    ", "\n    return c"


@pytest.mark.parametrize("marks", KNOWN, ids=lambda marks: marks.prefix)
def test_prompt_and_suffix_stand_where_the_model_expects_them(smollm2: Path, marks: FillInMarks) -> None:
    added = (marks.prefix, marks.suffix, *filter(None, [marks.middle]))
    tokenizer = with_template(smollm2, None, added)
    text = tokenizer.decode(fill_in(tokenizer, PREFIX, SUFFIX))
    if marks.middle is None:
        assert text == f"{marks.suffix}{SUFFIX}{marks.prefix}{PREFIX}"
    else:
        assert text == f"{marks.prefix}{PREFIX}{marks.suffix}{SUFFIX}{marks.middle}"


def test_a_token_that_begins_every_text_begins_this_one(smollm2: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = with_template(smollm2, None, ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"))
    begins = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.bos_token_id)])
    tokenizer._tokenizer.backend_tokenizer.post_processor = begins
    tokens = fill_in(tokenizer, PREFIX, SUFFIX)
    assert tokens[0] == tokenizer.bos_token_id
    assert tokens.count(tokenizer.bos_token_id) == 1


def test_a_model_that_has_not_learned_it_refuses(smollm2: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fill_in(with_template(smollm2, None, ("<fim_prefix>", "<fim_suffix>")), PREFIX, SUFFIX)
    assert caught.value.param == "suffix"
    assert "vocabulary" in caught.value.message
