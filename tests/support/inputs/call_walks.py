"""Calls drawn at random from a grammar, over a tokenizer of bytes and marks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from support.running.parrot import Accent, write_tokenizer

from mlx_server.schemas.internal.generation import Grammar, Tool, ToolUse
from mlx_server.workers.engine.grammar.call_grammars import CallGrammars
from mlx_server.workers.engine.grammar.distinct import Matcher
from mlx_server.workers.engine.grammar.tool_grammar import special_tokens
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
from mlx_server.workers.engine.output.tool_calls.tool_formats import ToolFormat

CLOSING = b'"}],<\n>)|'
END = "<|im_end|>"


class CallWalks:
    """Writes what a family's grammars allow, at random, with a leaning to what ends something."""

    def __init__(self, folder: Path, special: tuple[str, ...] = ()) -> None:
        from mlx_lm.utils import load_tokenizer

        folder.mkdir(parents=True)
        write_tokenizer(folder, Accent(special=special))
        (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
        self.tokenizer: Any = load_tokenizer(folder)
        self.vocabulary = Vocabulary(self.tokenizer, len(self.tokenizer))
        self.grammars = CallGrammars(self.vocabulary, special_tokens(self.tokenizer, self.vocabulary))
        texts = [self.vocabulary.tokens.decode_bytes([token]) for token in range(len(self.tokenizer))]
        self._closing = np.array([len(text) > 1 or text in CLOSING for text in texts])
        self._likely = np.array([len(text) > 1 or b" " <= text <= b"~" or text == b"\n" for text in texts])

    def matcher(
        self, format_: ToolFormat, tools: tuple[Tool, ...], use: ToolUse, content: Grammar | None = None
    ) -> tuple[Matcher, tuple[str, ...]]:
        """As a worker makes it, with the paths of what is not enforced."""
        return self.grammars.matcher(format_, tools, use, content)

    def written(self, matcher: Matcher, seed: int, most: int = 1500) -> str | None:
        """A text up to its end; None if that did not come."""
        rng = np.random.default_rng(seed)
        matcher, tokens = matcher.deep_copy(), []
        while len(tokens) < most:
            if matcher.is_stopped():
                return self._text(tokens)
            packed = np.frombuffer(matcher.compute_bitmask(), np.uint8)
            mask = np.unpackbits(packed, bitorder="little")[: len(self._closing)].astype(bool)
            ends = [token for token in self.tokenizer.eos_token_ids if mask[token]]
            if ends and rng.random() < 0.4:
                return self._text(tokens)
            mask[ends] = False
            sets = [mask & self._closing, mask & self._likely, mask]
            allowed = next(np.flatnonzero(each) for each in sets[rng.random() > 0.4 :] if each.any())
            token = int(rng.choice(allowed))
            assert matcher.consume_token(token), matcher.get_error()
            tokens.append(token)
        return None

    def takes(self, matcher: Matcher, text: str) -> bool:
        """Whether a whole text is allowed, and may end there."""
        matcher = matcher.deep_copy()
        for token in self.tokenizer.encode(text, add_special_tokens=False):
            packed = np.frombuffer(matcher.compute_bitmask(), np.uint8)
            if not packed[token // 8] >> token % 8 & 1 or not matcher.consume_token(token):
                return False
        return matcher.is_accepting()

    def _text(self, tokens: list[int]) -> str:
        return bytes(self.vocabulary.tokens.decode_bytes(tokens)).decode(errors="replace")
