#!/usr/bin/env bash
# numba 0.68.1: what a function is told to make parallel goes for the first types that it is compiled for, alone.
#
# Guess before it was run: a function decorated with `parallel={"numpy": False, ...}` has its sums done by one thread,
# whatever it is called with, and the dict that it was given stays as it was.
# Seen: with float32 it is so. Compiled again for float64, and for int64, the sum is spread over threads: the dict is
# emptied when the function is first compiled, what is left out of it counts as wanted, and it is read again each time.
# One dict for two functions goes for the first of them alone. To wake threads takes some 30 microseconds, ten times what
# such a sum does. With `parallel=True` and loops instead of whole-array expressions nothing is lost.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "numba==0.68.1" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
import sys

import numba
import numpy as np

NAMES = ("prange", "comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion")
given = {name: name == "prange" for name in NAMES}


@numba.njit(parallel=given)
def summed(x):
    return x.sum()


spread = []
for kind in (np.float32, np.float64, np.int64):
    summed(np.ones(8, kind))
    told = summed.get_metadata(summed.signatures[-1])["parfor_diagnostics"]
    spread.append(told.count_parfors())
    print(f"{np.dtype(kind).name}: {spread[-1]} parallel loops; the options now: {given}")
sys.exit((spread, given) != ([0, 1, 1], {}))
PYTHON
