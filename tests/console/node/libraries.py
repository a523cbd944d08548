"""Brings the console's libraries into the package, as npm's lock file names them.

For a newer one: `npm update` in this folder, then this script; what it copies is committed.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = HERE / "node_modules"
PACKAGED = HERE.parents[2] / "app" / "web" / "console" / "libraries"
FILES = {
    "dompurify.LICENSE": "dompurify/LICENSE",
    "highlight.LICENSE": "@highlightjs/cdn-assets/LICENSE",
    "highlight.min.js": "@highlightjs/cdn-assets/es/highlight.min.js",
    "marked.LICENSE": "marked/LICENSE",
    "marked.esm.js": "marked/lib/marked.esm.js",
    "purify.es.mjs": "dompurify/dist/purify.es.mjs",
}
"""By their names in the package: where npm puts them."""


def main() -> None:
    """Install what the lock file names, whose checksums npm compares, and copy it."""
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    for name, place in FILES.items():
        (PACKAGED / name).write_bytes((MODULES / place).read_bytes())


if __name__ == "__main__":
    main()
