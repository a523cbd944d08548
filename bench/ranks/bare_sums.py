"""A rank that does nothing but the sums of a decode step: `python bench/ranks/bare_sums.py SUMS FLOATS STEPS`.

Each sum needs the one before it, as in a model. Rank 0 prints the seconds of each step as JSON. Which rank it is, and
where the others are, stands in the environment, as for MLX.
"""

import json
import sys
from time import perf_counter

import mlx.core as mx

WARM_UP = 5


def main() -> None:
    sums, floats, steps = map(int, sys.argv[1:])
    group = mx.distributed.init(strict=True, backend="ring")
    taken = []
    for _ in range(WARM_UP + steps):
        began = perf_counter()
        hidden = mx.zeros(floats)
        for _ in range(sums):
            hidden = mx.distributed.all_sum(hidden, group=group)
        mx.eval(hidden)
        taken.append(perf_counter() - began)
    if group.rank() == 0:
        print(json.dumps(taken[WARM_UP:]))


if __name__ == "__main__":
    main()
