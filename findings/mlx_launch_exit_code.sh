#!/usr/bin/env bash
# MLX 0.32.4: `mlx.launch` says that all went well when its ranks fail.
#
# Guess before it was run: where a rank ends with code 3, `mlx.launch` ends the others and exits with a code that is
# not 0, as `mpirun` and `torchrun` do.
# Seen: it ends the others (-15), warns of both on its standard error, and exits with 0. A script or a supervisor that
# starts a model over several hosts through it can't tell a crash from the end of the work.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "mlx[cpu]==0.32.4"
cat > "$folder/rank.py" <<'PYTHON'
import sys
import time

import mlx.core as mx

group = mx.distributed.init(backend="ring", strict=True)
assert mx.distributed.all_sum(mx.array(1.0)).item() == 2
if group.rank() == 1:
    sys.exit(3)
time.sleep(30)
PYTHON
code=0
"$folder/venv/bin/mlx.launch" -n 2 --backend ring -- "$folder/venv/bin/python" "$folder/rank.py" 2> "$folder/said" || code=$?
cat "$folder/said"
echo "mlx.launch: exit code $code"
grep -q "rank 1 exited with code 3" "$folder/said"
test "$code" -eq 0
