"""A workaround: transformers (5.0 to 5.24) has the class that a folder names do what its tokenizer.json says.

Of the file it takes the vocabulary and the merges, and the class splits texts as its own family does. Folders name
classes that were never right, since older versions took everything from the file. A model has learned the file's
tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import Tokenizer
from transformers.tokenization_utils_tokenizers import TokenizersBackend

FILE = "tokenizer.json"
MOST_ADDED = 256
"""Added tokens that are tried."""

TEXTS = (
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog.",
    " a space before",
    "a space behind ",
    "  two  before,  between  and  behind  ",
    "     ",
    "\n",
    "\n\n",
    "a\nb\n\nc\n\n\nd",
    "a \n b  \n\n  c",
    "a\r\nb\r\n\r\n",
    "\ta\t\tb",
    "def f(x):\n    if x:\n        return [1, 2]\n\n\n    return None\n",
    "\tfor (int i = 0; i < n; ++i) {\n\t\ta[i] += b->c;\n\t}\n",
    '{"a": [1, -2.5e3, null], "b": {"c": "d"}}',
    "<p class='x'>&amp;</p>",
    "x=1;y==2!=3&&4||5",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "https://example.com/a/b?c=d&e=f#g",
    "C:\\Users\\name\\file.txt",
    "0 1 12 123 1234 12345 123456 1234567890",
    "3.14159 1,000,000 50% $20 ½ ² ٣ ५",
    "I'm, you'll, he'd, they've, WE'RE, IT'S",
    "“curly” ‘quotes’ — dashes… «guillemets»",
    "café naïve Ångström Straße İstanbul",
    "cafe\u0301 nai\u0308ve",
    "Привет, мир! Ёлка",
    "Γειά σου Κόσμε",
    "שלום עולם مرحبا بالعالم",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก ภาษาไทย",
    "你好，世界！今天天气很好。",
    "日本語のテキスト、カタカナとﾊﾝｶｸ",
    "안녕하세요 세계",
    "mixed 中文 and English中文",
    "🙂 👩‍👩‍👧 🇫🇷 ✊🏽",
    "a\u00a0b\u200bc\u3000d\ufeffe",
    "\x00\x07\x7f",
    "ﬁ ﬂ Ⅳ ① ｆｕｌｌ",
    "!!! ??? ... --- *** ### ```",
    "a" * 40,
    "▁ Ġ <0x0A> ##a",
)
"""Where tokenizers differ: code, blank lines, indentation, digits, scripts, spaces at both ends."""

Loaded = TypeVar("Loaded")


def like_its_file(
    folder: Path, read: Callable[[], Loaded], tokenizer_of: Callable[[Loaded], Any], *, lower_case: bool = False
) -> tuple[Loaded, list[str]]:
    """What `read` loads out of a folder, with a tokenizer that splits texts as tokenizer.json says; and notes.

    Special tokens are added as the class adds them. `lower_case`: it is given no other texts. Raises whatever `read`
    does.
    """
    loaded = read()
    if not (folder / FILE).is_file() or type(tokenizer_of(loaded)) is TokenizersBackend:
        return loaded, []
    file = FileTokenizer(folder / FILE, lower_case=lower_case)
    if file.agrees(tokenizer_of(loaded)):
        return loaded, []
    with whole_files():
        loaded = read()
    if (unlike := file.differs_at(tokenizer_of(loaded))) is None:
        return loaded, []
    name = type(tokenizer_of(loaded)).__name__
    return loaded, [f"{name} makes other tokens of {unlike!r} than {FILE} says, which the model was trained with"]


def tokenizer_in(processor: Any) -> Any:
    """A processor's tokenizer, which of models without media is the processor itself."""
    return getattr(processor, "tokenizer", processor)


class FileTokenizer:
    """What a tokenizer.json makes of `TEXTS`, and of its added tokens."""

    def __init__(self, path: Path, *, lower_case: bool) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = [token.content for _, token in sorted(self._tokenizer.get_added_tokens_decoder().items())]
        texts = [text.lower() for text in TEXTS] if lower_case else TEXTS
        self._texts = [*texts, *(f"a {token}b{token} c" for token in added[:MOST_ADDED])]

    def agrees(self, tokenizer: Any) -> bool:
        """A tokenizer of transformers' makes the same of them."""
        return self.differs_at(tokenizer) is None

    def differs_at(self, tokenizer: Any) -> str | None:
        """The first text of which it makes something else."""
        self._tokenizer.encode_special_tokens = bool(getattr(tokenizer, "split_special_tokens", False))
        encoded = self._tokenizer.encode_batch(self._texts, add_special_tokens=False)
        # Classes may change the text before they encode it, as mlx-lm's NewlineTokenizer does.
        encode = TokenizersBackend.encode if isinstance(tokenizer, TokenizersBackend) else type(tokenizer).encode
        return next(
            (
                text
                for text, ours in zip(self._texts, encoded, strict=True)
                if list(encode(tokenizer, text, add_special_tokens=False)) != ours.ids
            ),
            None,
        )


@contextlib.contextmanager
def whole_files() -> Iterator[None]:
    """Within this, fast tokenizers of all classes are read from tokenizer.json as a whole."""
    found = TokenizersBackend.__dict__["convert_to_native_format"]

    def with_file(cls: type[Any], /, **given: Any) -> dict[str, Any]:
        native: dict[str, Any] = found.__func__(cls, **given)
        file = given.get("tokenizer_file")
        return native | {"tokenizer_file": file} if file is not None and Path(file).is_file() else native

    TokenizersBackend.convert_to_native_format = classmethod(with_file)
    try:
        yield
    finally:
        TokenizersBackend.convert_to_native_format = found
