"""From texts, pairs and token ids to what a model takes: tokens, cut or refused where they are too many."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from mlx_server.schemas.internal.embedding import PER_DOCUMENT, Pair, Truncation
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, Prompt, TextPrompt
from mlx_server.workers.engine.embed.inputs.framed_text import FramedText, owners
from mlx_server.workers.engine.embed.inputs.input_lengths import InputLengths, lengths_of, too_long
from mlx_server.workers.engine.embed.inputs.job import Item
from mlx_server.workers.engine.loading.file_tokenizers import like_its_file
from mlx_server.workers.engine.loading.json_file import read_json
from mlx_server.workers.engine.prompt.slow_tokenizer import SlowTokenizer
from mlx_server.workers.errors import ModelLoadError, one_line
from mlx_server.workers.folders.context_length import shortest

TOGETHER = 64
"""Texts that are tokenised at a time: what tokenizers tell of a text is many times as large as its tokens."""

QUERY_TOO_LONG = "Shorten it: the document needs a place too."


class PairLimits(NamedTuple):
    """How many tokens a pair may have with all that stands in it, and how many its document; None: any number."""

    pair: int | None
    document: int | None


class InputTexts:
    """One model's tokenizer and limits. `limit` is in tokens, special ones included; None where there is none.

    `lower_case`: the model was trained on lower case. `types`: it tells the texts of a pair apart. Tokenizer's thread
    only, once made. `lengths` judge texts before they are tokenised.
    """

    def __init__(
        self, tokenizer: Any, vocab_size: int, limit: int | None, *, lower_case: bool = False, types: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._lower_case = lower_case
        self._types = types
        self.limit = limit

    @cached_property
    def _backend(self) -> Any:
        """A copy of the tokenizer, made for the first text."""
        return backend_of(self._tokenizer)

    @cached_property
    def lengths(self) -> InputLengths:
        """Made for the first text, from the whole vocabulary."""
        return lengths_of(self._tokenizer)

    def texts(self, texts: Sequence[FramedText], fields: Sequence[str], truncation: Truncation | None) -> list[Item]:
        """Each text with the tokens that begin and end it. `fields` name them in refusals. Raises InvalidRequest."""
        most = self.most(truncation)
        texts = [self._readable(framed, field, most, truncation) for framed, field in zip(texts, fields, strict=True)]
        items = []
        for start in range(0, len(texts), TOGETHER):
            some = texts[start : start + TOGETHER]
            encodings = self._backend.encode_batch([framed.whole for framed in some])
            for encoding, framed, field in zip(encodings, some, fields[start : start + TOGETHER], strict=True):
                places = places_of_text(owners(encoding, framed), most, truncation, field)
                items.append(Item(self.checked([encoding.ids[at] for at in places], field)))
        return items

    def ids(self, ids: Sequence[int], field: str, truncation: Truncation | None) -> Item:
        """Token ids as they are, with nothing added. Raises InvalidRequest."""
        most = self.most(truncation)
        if most is not None and len(ids) > most:
            if truncation is None:
                raise too_long(field, len(ids), most)
            ids = ids[:most] if truncation.keep == "start" else ids[-most:]
        return Item(self.checked(ids, field))

    def pairs(self, pairs: Sequence[Pair], truncation: Truncation | None) -> list[Item]:
        """Each query with its document, of which the document may be cut. Raises InvalidRequest."""
        limits = self.pair_limits(truncation)
        items = []
        for start in range(0, len(pairs), TOGETHER):
            some = [self.readable(pair, limits, truncation) for pair in pairs[start : start + TOGETHER]]
            encodings = self._backend.encode_batch([(pair.query, pair.document) for pair in some])
            for encoding, pair in zip(encodings, some, strict=True):
                places = places_of_pair(encoding.sequence_ids, limits, truncation, pair)
                ids = self.checked([encoding.ids[at] for at in places], pair.document_param)
                items.append(Item(ids, tuple(encoding.type_ids[at] for at in places) if self._types else None))
        return items

    def readable(self, pair: Pair, limits: PairLimits, truncation: Truncation | None) -> Pair:
        """What of a pair is worth tokenising. Raises InvalidRequest for what can't fit."""
        self.lengths.check(pair.query, pair.query_param, limits.pair, truncation, QUERY_TOO_LONG)
        if truncation is None:
            self.lengths.check(pair.document, pair.document_param, limits.pair, truncation)
            return pair
        return replace(pair, document=self.lengths.part(pair.document, shortest(*limits), truncation.keep))

    def pair_limits(self, truncation: Truncation | None) -> PairLimits:
        """What pairs may have. Raises InvalidRequest if more is wanted than the model takes."""
        if truncation is not None and truncation.param == PER_DOCUMENT:
            return PairLimits(self.limit, truncation.tokens)
        return PairLimits(self.most(truncation), None)

    def most(self, truncation: Truncation | None) -> int | None:
        """The tokens that an input may have. Raises InvalidRequest if more are wanted than the model takes.

        Of documents that says nothing: Cohere's clients send 4096 to every model.
        """
        if truncation is None or truncation.tokens is None:
            return self.limit
        wanted, param = truncation.tokens, truncation.param
        if self.limit is not None and wanted > self.limit:
            if param == PER_DOCUMENT:
                return self.limit
            raise InvalidRequest(f"`{param}` is {wanted}, and this model takes {self.limit} tokens at most.", param)
        return wanted

    def checked(self, ids: Sequence[int], field: str) -> tuple[int, ...]:
        """The same ids. The model looks them up without checking them. Raises InvalidRequest."""
        if not ids:
            raise InvalidRequest(f"`{field}` is empty, and this model has no token that stands for that.", field)
        for id_ in (min(ids), max(ids)):
            if not 0 <= id_ < self._vocab_size:
                raise InvalidRequest(
                    f"`{field}`: token id {id_} is not in the vocabulary (0 to {self._vocab_size - 1}).", field
                )
        return tuple(ids)

    def prompt(self, prompt: Prompt) -> list[int]:
        """The tokens of a text by itself. Raises InvalidRequest for a conversation."""
        match prompt:
            case ChatPrompt():
                raise InvalidRequest("This model has no conversations, only texts.", prompt.param)
            case TextPrompt():
                return list(self._backend.encode(prompt.text, add_special_tokens=prompt.special).ids)
            case _:
                return list(self.checked(prompt.ids, "prompt"))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Tokens as the vocabulary writes them; empty for an id that has no token."""
        return [piece or "" for piece in self._tokenizer.convert_ids_to_tokens(list(ids))]

    def text(self, ids: Iterable[int]) -> str:
        """The text of tokens, special ones included. Raises InvalidRequest for an id that is not in the vocabulary."""
        ids = list(ids)
        return str(self._tokenizer.decode(self.checked(ids, "tokens"))) if ids else ""

    def _readable(self, framed: FramedText, field: str, most: int | None, truncation: Truncation | None) -> FramedText:
        """What of a text is worth tokenising, in the letters that the model knows."""
        if truncation is None:
            self.lengths.check(framed.whole, field, most, truncation)
            text = framed.text
        else:
            self.lengths.check(framed.head + framed.tail, field, most, truncation, "Shorten its prompt.")
            text = self.lengths.part(framed.text, most, truncation.keep)
        return framed._replace(text=text.lower() if self._lower_case else text)


def places_of_text(
    whose: Sequence[int | None], most: int | None, truncation: Truncation | None, field: str
) -> Sequence[int]:
    """Which tokens of a text stay, by `owners`. Raises InvalidRequest if there are too many and none may go."""
    count = len(whose)
    if most is None or count <= most:
        return range(count)
    if truncation is None:
        raise too_long(field, count, most)
    places = places_left(whose, count - most, 0, truncation.keep)
    if places is None:
        raise InvalidRequest(
            f"`{truncation.param}` must be larger than {whose.count(None)}, the number of tokens that this model adds.",
            truncation.param,
        )
    return places


def places_of_pair(
    whose: Sequence[int | None], limits: PairLimits, truncation: Truncation | None, pair: Pair
) -> Sequence[int]:
    """The same for a query (0) and a document (1), which alone may be cut. Raises InvalidRequest."""
    own = whose.count(1)
    stays = document_share(own, len(whose) - own, limits, truncation, pair)
    if stays == own:
        return range(len(whose))
    assert truncation is not None, "nothing is cut that may not be"
    places = places_left(whose, own - stays, 1, truncation.keep)
    assert places is not None, "there is room for a part of the document"
    return places


def document_share(own: int, taken: int, limits: PairLimits, truncation: Truncation | None, pair: Pair) -> int:
    """How many of a document's `own` tokens stay beside the `taken` ones round it. Raises InvalidRequest."""
    if limits.pair is not None and taken + own > limits.pair:
        check_fits(taken, limits.pair, truncation, pair)
        if truncation is None:
            raise too_long(pair.document_param, taken + own, limits.pair)
        own = limits.pair - taken
    return own if limits.document is None else min(own, limits.document)


def check_fits(taken: int, most: int, truncation: Truncation | None, pair: Pair) -> None:
    """With so many tokens round a document, one of its own must fit. Raises InvalidRequest, which names the query."""
    if taken >= most:
        raise too_long(pair.query_param, taken, most, truncation, QUERY_TOO_LONG)


def places_left(
    owners: Sequence[int | None], excess: int, cuttable: int, keep: Literal["start", "end"]
) -> list[int] | None:
    """Which places stay when `excess` tokens of one text go, at its end or at its start; None if that takes all.

    `owners` has for each token the text that it is of, None for special ones.
    """
    places = [place for place, owner in enumerate(owners) if owner == cuttable]
    if excess >= len(places):
        return None
    gone = set(places[-excess:] if keep == "start" else places[:excess])
    return [place for place in range(len(owners)) if place not in gone]


def backend_of(tokenizer: Any) -> Any:
    """What tokenises texts whole, and pads nothing."""
    if not hasattr(tokenizer, "backend_tokenizer"):
        return SlowTokenizer(tokenizer)
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    return backend


def gives_types(folder: Path, tokenizer: Any) -> bool:
    """Whether a model with this tokenizer was told which text of a pair a token is of. The class of all other fast
    tokenizers did that until transformers 5, which gave it another name."""
    settings = folder / "tokenizer_config.json"
    given = read_json(settings) if settings.is_file() else {}
    if not given.get("model_input_names") and given.get("tokenizer_class") == "PreTrainedTokenizerFast":
        return True
    return "token_type_ids" in tokenizer.model_input_names


def read_input_tokenizer(folder: Path, *, may_be_slow: bool = False, lower_case: bool = False) -> tuple[Any, list[str]]:
    """The tokenizer of a model that writes no text, and notes; a slow one is for texts only, not for pairs or frames.
    `lower_case`: it is given no other texts.

    Raises ModelLoadError.
    """
    from transformers import AutoTokenizer

    def read() -> Any:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)

    try:
        tokenizer, notes = like_its_file(folder, read, lambda found: found, lower_case=lower_case)
    # A tokenizer's files may hold anything.
    except Exception as error:
        raise ModelLoadError(f"{folder}: its tokenizer can't be loaded: {one_line(error)}") from error
    if not may_be_slow and not hasattr(tokenizer, "backend_tokenizer"):
        raise ModelLoadError(f"{folder}: its tokenizer has no tokenizer.json, which is needed")
    return tokenizer, notes
