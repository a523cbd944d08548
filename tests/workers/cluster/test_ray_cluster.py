"""Replicas on a Ray cluster of two nodes of this machine: whatever dies there, what had sent nothing is replayed."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import psutil
import pytest
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
from support.running.metrics import value
from support.running.processes import lives
from support.running.servers import SCRIPTED, Server, chat_body, serving, wait_for
from support.running.streams import events, open_stream, text_of

from mlx_server.app.fleet.memory_estimate import SCRIPTED_BYTES

ON = ("--cluster", "auto")
BROKER = "mlx_server.workers.cluster.broker"
ROWS = 4
BACK_S = 10.0
TOKENS = 25
LONG = {"tokens": TOKENS, "interval_s": 0.1}
LONGER = {"tokens": 40, "interval_s": 0.1}
NODE = {"object_store_memory": 80 << 20, "include_dashboard": False, "resources": {"mlx_memory": 1 << 30}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head with room for two replicas, and a node with room for one."""
    found = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 2})
    found.add_node(**NODE, num_cpus=1)
    yield found
    for node in found.list_all_nodes():
        node.kill_all_processes(check_alive=False, allow_graceful=False)


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Server]:
    """Two replicas, one on each node."""
    with serving(*SCRIPTED, "--replicas", 2, "--max-concurrency", ROWS, *ON, env=env(cluster)) as found:
        yield found


@pytest.fixture
def door(cluster: Cluster) -> Iterator[str]:
    """The cluster's address for those who are no nodes, as `ray start --head` has it at port 10001."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ray.util.client.server", f"--address={cluster.address}", "--mode=proxy"]
    with psutil.Popen([*command, "--host=127.0.0.1", f"--port={port}"]) as process:
        try:
            wait_for(lambda: any(one.laddr.port == port for one in process.net_connections()))
            yield f"ray://127.0.0.1:{port}"
        finally:
            for one in (*process.children(recursive=True), process):
                one.kill()


def env(cluster: Cluster) -> dict[str, str]:
    return {"RAY_ADDRESS": cluster.address}


def raylet(node: Any) -> Any:
    """A node's daemon, the parent of all that Ray runs there."""
    [found] = node.all_processes["raylet"]
    return found.process


def agents(node: Any) -> list[psutil.Process]:
    """The actors on a node."""
    return [one for one in psutil.Process(raylet(node).pid).children() if "ray::Agent" in " ".join(one.cmdline())]


def workers(node: Any) -> list[psutil.Process]:
    """The worker processes on a node."""
    return [child for agent in agents(node) for child in agent.children() if lives(child.pid)]


def living(cluster: Cluster) -> list[Any]:
    """The nodes, the head first, whose daemons live."""
    return [node for node in (cluster.head_node, *cluster.worker_nodes) if lives(raylet(node).pid)]


def everywhere(cluster: Cluster, what: Callable[[Any], list[psutil.Process]]) -> list[psutil.Process]:
    """The same on all nodes."""
    return [process for node in living(cluster) for process in what(node)]


def wait_both(server: Server) -> None:
    server.wait_until(lambda: server.stats()["workers"] == {"ready": 2})


def kill_raylet(node: Any) -> None:
    raylet(node).kill()
    raylet(node).wait()


def drain(cluster: Cluster, node: Any) -> None:
    """As `ray drain-node` does, and who takes machines away in a cloud."""
    deadline_ms = time.time_ns() // 1_000_000 + 60_000
    preempted = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    asked = GcsClient(address=cluster.address).drain_node(node.node_id, preempted, "it is taken away", deadline_ms)
    assert asked[0], asked


def stream(server: Server, begun: Event, script: dict[str, Any] = LONG) -> list[Any]:
    """All events of a stream; its first text sets `begun`."""
    found: list[Any] = []
    with open_stream(server, chat_body(script)) as response:
        for event in events(response.iter_lines()):
            found.append(event)
            if not begun.is_set() and text_of(found):
                begun.set()
    return found


def broker(server: Server) -> psutil.Process:
    """The process beside a front end that talks to Ray, the driver of its actors."""
    [found] = [one for one in psutil.Process(server.process.pid).children() if BROKER in one.cmdline()]
    return found


KILLS: dict[str, tuple[int, Callable[[Server, Any], None]]] = {
    "worker": (1, lambda _, node: workers(node)[0].kill()),
    "raylet": (1, lambda _, node: kill_raylet(node)),
    "agent": (1, lambda _, node: agents(node)[0].kill()),
    "broker": (2, lambda server, _: broker(server).kill()),
}
"""What dies, and how many replicas with it. In this order: with the raylet its node is gone, and all goes on at the
head."""


@pytest.mark.parametrize("what", KILLS)
def test_what_is_killed_on_a_node_costs_no_request_that_has_sent_nothing(
    cluster: Cluster, server: Server, what: str
) -> None:
    wait_both(server)
    node = [one for one in living(cluster) if workers(one)][-1]
    worker = workers(node)[0]
    replicas, kill = KILLS[what]
    before = server.stats()
    with ThreadPoolExecutor(3 * ROWS) as pool:
        begun = Event(), Event()
        streams = [pool.submit(stream, server, each) for each in begun]
        assert all(each.wait(BACK_S) for each in begun)
        answers = [pool.submit(server.chat, LONG) for _ in range(2 * ROWS)]
        server.wait_stats(rows_used=2 * ROWS)
        kill(server, node)
        server.wait_until(lambda: server.stats()["worker_restarts"] == before["worker_restarts"] + replicas)
        wait_both(server)
        assert [answer.result().status_code for answer in answers] == [200] * len(answers)
        ended = [stream.result() for stream in streams]
    lost = [chunks for chunks in ended if "error" in chunks[-1]]
    assert [chunks[-1]["error"]["code"] for chunks in lost] == ["worker_lost"] * replicas
    assert [text_of(chunks).split() for chunks in ended if chunks not in lost] == [["token"] * TOKENS] * (2 - replicas)
    assert not lives(worker.pid)


def test_front_ends_share_a_cluster_and_use_what_joins(
    cluster: Cluster, server: Server, launch: Callable[..., Server]
) -> None:
    for node in living(cluster)[1:]:
        kill_raylet(node)
    server.wait_until(lambda: len(workers(cluster.head_node)) == 2)
    wait_both(server)
    other = launch(*SCRIPTED, "--replicas", 2, *ON, env=env(cluster), wait=False)
    other.wait_listening()
    with ThreadPoolExecutor(2) as pool:
        needs = f"it needs 1 CPU, mlx_memory {SCRIPTED_BYTES}"
        other.wait_until(lambda: f"waits for a node with room: {needs}" in other.output())
        streams = [pool.submit(stream, server, Event(), LONGER) for _ in range(2)]
        for each in (server, other):
            each.wait_until(lambda each=each: each.stats()["workers"] == {"ready": 1, "starting": 1})
        assert [text_of(stream.result()).split() for stream in streams] == [["token"] * LONGER["tokens"]] * 2
    cluster.add_node(**NODE, num_cpus=2)
    wait_both(server)
    wait_both(other)
    assert value(other, "worker_memory_bound_bytes") == SCRIPTED_BYTES
    assert len(everywhere(cluster, agents)) == len(everywhere(cluster, workers)) == 4
    talks = broker(other)
    assert other.stop() == 0
    wait_for(lambda: len(everywhere(cluster, agents)) == len(everywhere(cluster, workers)) == 2, BACK_S)
    assert not lives(talks.pid)
    assert server.stats()["workers"] == {"ready": 2}


def test_a_replica_leaves_a_node_that_is_drained(cluster: Cluster, server: Server) -> None:
    """What runs there comes to its end, and the replica moves to a node with room; then the empty node goes."""
    wait_both(server)
    node = next(one for one in living(cluster)[1:] if workers(one))
    there = workers(node)
    before = server.stats()["worker_restarts"]
    with ThreadPoolExecutor(2) as pool:
        begun = Event(), Event()
        streams = [pool.submit(stream, server, each, LONGER) for each in begun]
        assert all(each.wait(BACK_S) for each in begun)
        drain(cluster, node)
        server.wait_until(lambda: server.output().count("is being drained") == len(there))
        ended = [stream.result() for stream in streams]
    assert [text_of(chunks).split() for chunks in ended] == [["token"] * LONGER["tokens"]] * 2
    wait_for(lambda: not any(lives(one.pid) for one in there), BACK_S)
    wait_both(server)
    assert server.stats()["worker_restarts"] == before, "none was lost"
    assert not lives(raylet(node).pid) or not agents(node)


def test_the_end_of_a_server_leaves_no_process(cluster: Cluster, server: Server) -> None:
    wait_both(server)
    left = [*everywhere(cluster, agents), *everywhere(cluster, workers), broker(server)]
    assert len(left) == 5
    assert server.stop() == 0
    assert psutil.wait_procs(left, timeout=BACK_S)[1] == []


def test_a_front_end_that_is_no_node_has_replicas_there(
    cluster: Cluster, door: str, launch: Callable[..., Server]
) -> None:
    server = launch(*SCRIPTED, "--replicas", 2, "--cluster", door)
    wait_both(server)
    assert text_of(stream(server, Event())).split() == ["token"] * TOKENS
    [lost, *_] = everywhere(cluster, workers)
    lost.kill()
    server.wait_until(lambda: server.stats()["worker_restarts"] == 1)
    wait_both(server)
    left = [*everywhere(cluster, agents), *everywhere(cluster, workers), broker(server)]
    assert len(left) == 5
    assert server.stop() == 0
    assert psutil.wait_procs(left, timeout=BACK_S)[1] == []
