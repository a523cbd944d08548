"""`python lease_taker.py FOLDER COUNTS NUMBER [SECONDS]`: takes the lease in FOLDER again and again until it is killed.

Each turn lasts SECONDS, is counted at place NUMBER of the file COUNTS, and fails if anybody else has the turn. Without
SECONDS the first turn lasts for ever.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path

from mlx_server.workers.child.lease import Lease

COUNT = struct.Struct("<Q")


def read_counts(file: Path) -> list[int]:
    """How many turns each one has had."""
    return [count for (count,) in COUNT.iter_unpack(file.read_bytes())]


def main() -> None:
    """Run until killed."""
    folder, number = Path(sys.argv[1]), int(sys.argv[3])
    counts = os.open(sys.argv[2], os.O_RDWR)
    lease, inside = Lease(folder), folder / "inside"
    for turn in range(1, sys.maxsize):
        lease.acquire()
        if len(sys.argv) < 5:
            os.pwrite(counts, COUNT.pack(turn), number * COUNT.size)
            time.sleep(3600)
        inside.touch(exist_ok=False)
        time.sleep(float(sys.argv[4]))
        inside.unlink()
        os.pwrite(counts, COUNT.pack(turn), number * COUNT.size)
        lease.release()


if __name__ == "__main__":
    main()
