import logging
import subprocess
import sys

import pytest

from mlx_server.workers.log_lines import LineFormatter
from mlx_server.workers.parent.printed import MOST_BYTES, record_of, tell


def test_line_of_a_workers_log_is_as_the_worker_wrote_it() -> None:
    error = ("worker", 1.25, logging.ERROR, "a step failed: 5 % of it", ["a", "b"], "Traceback\nValueError: x")
    name, created, level, text, ids, raised = error
    made = logging.makeLogRecord({"levelname": "ERROR", "levelno": level, "msg": text, "created": created})
    made.exc_text, made.request_ids = raised, ids
    written = LineFormatter(name, "json").format(made)
    read = record_of(written.encode())
    assert LineFormatter("server", "json").format(read) == written
    assert (
        LineFormatter("server", "text")
        .format(read)
        .endswith(",250 ERROR   worker a step failed: 5 % of it (request a, b)\nTraceback\nValueError: x")
    )


@pytest.mark.parametrize("text", [b"what a library prints\n", b'{"level": 1}\n', b"{", b"\xff\n"])
def test_anything_else_is_a_warning(text: bytes) -> None:
    record = record_of(text)
    assert (record.levelno, record.getMessage()) == (logging.WARNING, text.decode(errors="replace").strip())


def test_all_that_is_printed_is_logged_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    command = f"import os; print(); print('x' * {MOST_BYTES + 1}, flush=True); os.write(2, b'the end'); os.abort()"
    process = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    tell(process).join(20)
    assert process.wait(20) != 0
    assert [len(record.getMessage()) for record in caplog.records] == [MOST_BYTES, 1, len("the end")]
