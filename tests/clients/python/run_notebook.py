"""`run_notebook.py NOTEBOOK`: run it in a kernel of this interpreter, and print what its cells print and show."""

from __future__ import annotations

import sys

import nbformat
from nbclient import NotebookClient


def main(path: str) -> None:
    """Raises CellExecutionError for a cell that fails."""
    cells = nbformat.read(path, as_version=4)
    # What one `print` writes may come in several pieces.
    notebook = NotebookClient(cells, timeout=300, kernel_name="python3", coalesce_streams=True).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            print(output.text if output.output_type == "stream" else output.data["text/plain"])


if __name__ == "__main__":
    main(sys.argv[1])
