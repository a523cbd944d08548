"""How a broker joins a cluster: with Ray's place taken, whose servers for clients die at random."""

import pytest
import ray

from mlx_server.workers.cluster.broker import ATTEMPTS, join
from mlx_server.workers.cluster.orders import NoCluster

ADDRESS = "ray://127.0.0.1:10001"


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ([ConnectionAbortedError("dead\n at once")] * (ATTEMPTS - 1), None),
        ([ConnectionAbortedError("dead\n at once")] * ATTEMPTS, "dead at once"),
        ([ConnectionError("no answer")], "no answer"),
    ],
    ids=["in the end", "never", "nobody is there"],
)
def test_a_cluster_that_ends_the_connection_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, errors: list[Exception], reason: str | None
) -> None:
    left = list(errors)

    def init(address: str, **_: object) -> None:
        assert address == ADDRESS
        if left:
            raise left.pop(0)

    monkeypatch.setattr(ray, "init", init)
    assert join(ADDRESS) == (reason and NoCluster(reason))
    assert left == []
