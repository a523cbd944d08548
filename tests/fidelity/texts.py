"""Two hundred texts of which tokenizers make different things where they split them differently."""

from __future__ import annotations

from itertools import product

CODE = (
    "def f(x):\n    return x + 1\n",
    "class A:\n\n    def b(self):\n        pass\n\n\nclass C:\n    pass\n",
    "if (a && b) {\n\treturn c[i++];\n}\n",
    "for i in range(10):\n  print(f'{i:>3}')\n",
    "SELECT a, count(*) FROM t WHERE b >= 3 GROUP BY a;",
    '<div class="a b">\n  <p>text</p>\n</div>',
    '{"key": [1, 2.5, null], "other": {"a": "b\\n"}}',
    "#include <stdio.h>\n\nint main(void) { return 0; }\n",
    "let x = y?.z ?? 'none';",
    "fn main() -> Result<(), Box<dyn Error>> {}",
    "a_b camelCase HTTPServer __init__ CONST_2 x1y2",
    "```python\nprint('hi')\n```",
    "x = 0x1F + 0b101 + 1e-9 + 1_000",
    "git commit -m 'message' --no-verify",
    "\\begin{equation} a^2 + b^2 = c^2 \\end{equation}",
)
URLS = (
    "https://example.org/a/b?c=d&e=%20f#g",
    "http://localhost:8080/v1/models",
    "www.example.com, mail@example.com",
    "ftp://user:pass@host.example:21/file.tar.gz",
    "/usr/local/bin/python3.11 -m pip",
    "C:\\Users\\name\\file.txt",
    "https://ru.wikipedia.org/wiki/Заглавная_страница",
)
SCRIPTS = (
    "สวัสดีครับ ผมชื่อสมชาย",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "你好，世界！今天天气很好。",
    "中文和English混合123",
    "繁體中文的文字",
    "日本語のテキスト、カタカナとひらがな",
    "ﾊﾝｶｸ と 全角 ＡＢＣ１２３",
    "안녕하세요 세계",
    "ᄒ\u1161\u11ab국",
    "Привет, мир! Ёжик",
    "Γειά σου Κόσμε",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "Tiếng Việt có dấu",
    "ქართული ენა",
    "🙂 👩‍👩‍👧 🇫🇷 ✊🏽",
    "mixed текст 文字 text",
)
ACCENTS = (
    "café",
    "cafe\u0301",
    "naïve Ångström",
    "nai\u0308ve A\u030angstro\u0308m",
    "Straße ẞ İstanbul ı",
    "e\u0301e\u0302e\u0308",
    "ﬁ ﬂ Ⅳ ① ½ ² ㎏",
    "\u1e69 s\u0323\u0307 s\u0307\u0323",
    "A\u0300\u0301\u0302B",
)
NUMBERS = (
    "0",
    "12",
    "123",
    "1234",
    "12345",
    "1234567890123",
    "3.14159",
    "1,000,000.50",
    "1 000 000",
    "2024-01-31T23:59:59Z",
    "+49 (0)30 123456",
    "٣٤٥ ५६७ ๑๒๓",
    "50% $20 €5 £3",
    "v1.2.3-rc4",
)
CONTRACTIONS = (
    "I'm you're he'll they've we'd it's don't",
    "I'M YOU'RE HE'LL THEY'VE WE'D IT'S DON'T",
    "I’m you’re don’t",
    "'tis o'clock rock'n'roll",
    "'s 't 're",
    "John's dogs' 90's",
)
MARKS = (
    "!!! ??? ... --- *** ### ===",
    "“curly” ‘quotes’ «guillemets» — – …",
    "a,b;c:d.e!f?g",
    "(a) [b] {c} <d>",
    "a-b a_b a/b a\\b a|b a~b",
    "▁ Ġ <0x0A> ##a @@",
    "a\u00a0b\u200bc\u3000d\ufeffe\u2009f",
    "\x07\x7f",
    "a" * 60,
    "ab" * 40,
    "!" * 33,
    "word",
    "Word",
    "WORD",
    "the quick brown fox jumps over the lazy dog",
    "The Quick Brown Fox Jumps Over The Lazy Dog",
)


def spaced() -> list[str]:
    """Runs of spaces, tabs and line breaks alone, between words, before them and behind them."""
    blanks = [" ", "\t", "\n", "\r\n"]
    runs = [blank * count for blank, count in product(blanks, (1, 2, 3, 4, 8))]
    mixed = [" \n", "\n ", "\t ", " \t", "\n\n  ", "  \n\n", "\n \n", "\n\t\n", " \r\n ", " " * 33]
    found = [*runs, *mixed]
    for run in [*runs, *mixed]:
        found += [f"a{run}b", f"{run}x", f"x{run}"]
    return found


TEXTS: tuple[str, ...] = tuple(
    dict.fromkeys((*CODE, *URLS, *SCRIPTS, *ACCENTS, *NUMBERS, *CONTRACTIONS, *MARKS, *spaced()))
)
