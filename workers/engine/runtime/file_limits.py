"""A workaround: importing mlx_lm (up to 0.32) lowers this process's RLIMIT_NOFILE to 2048, for good if not root."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def file_limits_kept() -> Iterator[None]:
    """Within this, nobody in this process changes its limits."""
    setrlimit = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        yield
    finally:
        resource.setrlimit = setrlimit
