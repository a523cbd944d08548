"""What a process that loads MLX says of the machine."""

from __future__ import annotations

import msgspec


class MlxFacts(msgspec.Struct, frozen=True):
    """`device` is `cpu` or `gpu`, `name` its name. `working_set_bytes` is what Metal recommends to use at most, None
    elsewhere. `openblas`: its products of matrices are OpenBLAS's; `gflops` is how many 10^9 operations a second such
    a product reaches in float32.
    """

    mlx: str
    device: str
    name: str
    metal: bool
    working_set_bytes: int | None
    openblas: bool
    gflops: float
