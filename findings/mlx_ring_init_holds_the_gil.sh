#!/usr/bin/env bash
# mlx 0.32.4 on Linux: no other thread of a rank runs while `mx.distributed.init` waits for the other ranks.
#
# Guess before it was run: the ring backend's `init` blocks its own thread until all ranks are there, and lets the others
# run meanwhile, as Python's own sockets do: a heartbeat's thread, or an event loop, goes on.
# Seen: rank 1 starts three seconds after rank 0. A thread of rank 0 that writes down the time every 10 ms comes to
# nothing in those three seconds, and to a hundred lines in the second after `init`: it holds the interpreter's lock. So
# a rank that waits looks dead to whoever watches it, and can hear neither that another one has failed nor that it is to
# stop.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "mlx[cpu]==0.32.4"
cat >"$folder/rank.py" <<'PYTHON'
import sys
import threading
import time

import mlx.core as mx

ticks = []


def tick() -> None:
    while True:
        ticks.append(time.monotonic())
        time.sleep(0.01)


if __name__ == "__main__":
    time.sleep(float(sys.argv[1]))
    threading.Thread(target=tick, daemon=True).start()
    time.sleep(0.2)
    began = time.monotonic()
    group = mx.distributed.init(strict=True, backend="ring")
    joined = time.monotonic()
    time.sleep(1)
    meanwhile = sum(began < at < joined for at in ticks)
    after = sum(joined < at < joined + 1 for at in ticks)
    print(group.rank(), group.size(), round(joined - began, 1), meanwhile, after)
PYTHON
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

folder = Path(sys.argv[1])
with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
    places = [[f"127.0.0.1:{each.getsockname()[1]}"] for each in (one, other)]
(folder / "hosts.json").write_text(json.dumps(places))
env = {**os.environ, "MLX_HOSTFILE": str(folder / "hosts.json")}
ranks = [
    subprocess.Popen(
        [sys.executable, folder / "rank.py", late], env={**env, "MLX_RANK": str(rank)}, stdout=subprocess.PIPE, text=True
    )
    for rank, late in enumerate(("0", "3"))
]
said = [each.communicate(timeout=60)[0].split() for each in ranks]
_, size, waited, meanwhile, after = said[0]
print(f"{size} ranks: rank 0 waited {waited} s, its thread wrote {meanwhile} lines meanwhile and {after} in the next second")
sys.exit(not (size == "2" and float(waited) > 2 and int(meanwhile) < 20 < int(after)))
PYTHON
