"""`run_notebook.py NOTEBOOK`: run it in a kernel of this interpreter, and print what its cells print and show."""

from __future__ import annotations

import sys

import nbformat
from nbclient import NotebookClient


def main(path: str) -> None:
    """Raises CellExecutionError for a cell that fails."""
    notebook = NotebookClient(nbformat.read(path, as_version=4), timeout=300, kernel_name="python3").execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            print(output.text if output.output_type == "stream" else output.data["text/plain"])


if __name__ == "__main__":
    main(sys.argv[1])
