"""Keys that are pressed while a command draws."""

from __future__ import annotations

import contextlib
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator


@contextlib.contextmanager
def ends_with(keys: str) -> Iterator[None]:
    """Any of these keys is as good as Ctrl-C meanwhile, and none is echoed. Without a terminal, nothing changes."""
    if not sys.stdin.isatty():
        yield
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    main = threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        while (key := sys.stdin.read(1)) and key not in keys:
            pass
        if key:
            signal.pthread_kill(main, signal.SIGINT)

    tty.setcbreak(terminal)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
