"""The front end's side of a cluster, without one: what a broker tells, and a node that does not answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
from support.running.fleets import until

from mlx_server.workers.channel import Channel
from mlx_server.workers.cluster.orders import Address, Joined, NoCluster, NotPlaced, Report, Waits, decode_report
from mlx_server.workers.cluster.starts import Cluster, ClusterError, ClusterWorker
from mlx_server.workers.cluster.tls import make_identity
from mlx_server.workers.parent.handle import NoPlace, StartRefused
from mlx_server.workers.parent.starts import Wanted

Told = Callable[[int], Report | None]
"""What is told of an order with this number; None: the broker's end."""


def gone(_: int) -> None:
    return None


def joined(_: int) -> Joined:
    return Joined()


def no_cluster(_: int) -> NoCluster:
    return NoCluster("nobody answers")


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ([no_cluster, gone], StartRefused),
        ([gone], StartRefused),
        ([joined, gone], NoPlace),
        ([joined, no_cluster], NoPlace),
        ([joined, lambda number: NotPlaced(number, "its node hangs")], ClusterError),
        ([joined, lambda number: NotPlaced(number, "other versions", refused=True)], StartRefused),
    ],
    ids=["a wrong address", "no broker", "the broker dies", "the cluster is gone", "an agent fails", "other versions"],
)
def test_a_replica_waits_on_where_another_time_may_be_better(told: list[Told], error: type[OSError]) -> None:
    async def scenario() -> None:
        cluster = Cluster("auto")
        channel: Channel[Report] = Channel(decode_report, cluster._on_report, cluster._on_closed)
        cluster._channel = channel
        placing = asyncio.ensure_future(cluster.place(0, "model", 0, Wanted(None, "info", ""), "lm"))
        await until(lambda: cluster._waiting)
        [number] = cluster._waiting
        for tell in told:
            report = tell(number)
            if report is None:
                channel.connection_lost(None)
            else:
                cluster._on_report(report)
        with pytest.raises(error) as caught:
            await placing
        assert type(caught.value) is error

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("full", "line"),
    [(True, "waits for a node with room: it needs 1 CPU, mlx_memory 8"), (False, "waits for Ray")],
)
def test_the_log_says_what_a_replica_waits_for(caplog: pytest.LogCaptureFixture, full: bool, line: str) -> None:
    with caplog.at_level("INFO"):
        Cluster("auto")._on_report(Waits(8, full))
    assert line in caplog.text


def test_a_node_that_drops_packets_is_given_up_in_time() -> None:
    """A listener whose queue is full answers nobody, as a firewall does."""

    async def scenario() -> None:
        own = make_identity()
        with socket.socket() as node, socket.socket() as before:
            node.bind(("127.0.0.1", 0))
            node.listen(0)
            host, port = node.getsockname()
            before.connect((host, port))
            worker = ClusterWorker(Address(0, host, port, own.certificate, "node"), own, call_s=0.2)
            async with asyncio.timeout(1.0):
                with pytest.raises(ClusterError, match=r"did not answer at port \d+ in 0.2 s"):
                    await worker.connect(asyncio.Protocol())
            assert not worker.lives

    asyncio.run(scenario())
