"""Command lines in one process, each from its words to its exit code as in a process of its own."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.pool import Pool
from subprocess import CompletedProcess

from support.running.servers import ROOT

TERMINAL = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
LIMIT_S = 60.0


class CommandLines:
    """The `mlx-server` command in a process that has imported it already. One that hangs ends with the `with` block."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def run(self, *words: object) -> CompletedProcess[str]:
        """What it said to these words, and its exit code. Raises multiprocessing.TimeoutError."""
        return self._pool.apply_async(_outcome, (list(map(str, words)),)).get(LIMIT_S)


@contextmanager
def command_lines() -> Iterator[CommandLines]:
    """Ready to run some."""
    with get_context("spawn").Pool(1, _begin) as pool:
        yield CommandLines(pool)


def _begin() -> None:
    os.environ |= TERMINAL
    os.chdir(ROOT)


def _outcome(words: list[str]) -> CompletedProcess[str]:
    from mlx_server.app.__main__ import main

    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        # Of the process and not of Python alone: whatever it starts writes there too.
        kept = os.dup(1), os.dup(2)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.argv = ["mlx-server", *words]
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        except Exception:  # noqa: BLE001 - what Python does with it
            traceback.print_exc()
            code = 1
        finally:
            for number, (stream, was) in enumerate(zip((sys.stdout, sys.stderr), kept, strict=True), 1):
                stream.flush()
                os.dup2(was, number)
                os.close(was)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read())
    return CompletedProcess(words, code if isinstance(code, int) else 1, *said)
