"""What a worker process prints becomes lines of this process's log: its own log's, and what models' code prints."""

from __future__ import annotations

import logging
import subprocess
import threading
from datetime import UTC, datetime
from typing import IO

import msgspec

log = logging.getLogger("mlx_server.worker")

MOST_BYTES = 1 << 16
"""Of a line that is read at once; the rest of a longer one becomes more lines."""


class Line(msgspec.Struct, frozen=True):
    """A line as `LineFormatter` writes it; a single id stands by itself."""

    time: datetime
    level: str
    message: str
    request_id: str | list[str] | None = None
    exception: str | None = None


DECODER = msgspec.json.Decoder(Line)


def tell(process: subprocess.Popen[bytes]) -> threading.Thread:
    """Log what a process prints, in a thread that ends with it: a full pipe would stop the process."""
    thread = threading.Thread(target=_read, args=(process.stdout,), name=f"output of {process.pid}", daemon=True)
    thread.start()
    return thread


def _read(pipe: IO[bytes]) -> None:
    with pipe:
        while text := pipe.readline(MOST_BYTES):
            if text.strip():
                record = record_of(text)
                if log.isEnabledFor(record.levelno):
                    log.handle(record)


def record_of(text: bytes) -> logging.LogRecord:
    """A printed line as a record of the log; what is no line of a log is a warning."""
    try:
        line = DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        line = Line(datetime.now(UTC), "warning", text.decode(errors="replace").rstrip())
    seconds = line.time.timestamp()
    ids = [line.request_id] if isinstance(line.request_id, str) else line.request_id
    level = line.level.upper()
    return logging.makeLogRecord(
        {
            "name": log.name,
            "levelname": level,
            "levelno": logging.getLevelNamesMapping().get(level, logging.WARNING),
            "msg": line.message,
            "created": seconds,
            "msecs": seconds % 1 * 1000,
            "exc_text": line.exception,
            "process_role": "worker",
            "request_ids": ids,
        }
    )
