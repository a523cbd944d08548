"""How soon a server has all its replicas again after a node of its Ray cluster has died: `python bench/cluster/kills.py
[--kills 5]`.

Each time two replicas of the scripted backend have a node each on this machine, and the daemon of one of these is ended
by SIGKILL, which the others are not told of. There are three nodes with room for one replica each, or two with room for
two. The target is 10 s. Raw rows go to bench/results/ray_kills.json. Exit code 0 when each time was shorter, else 2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from cluster.replicas import LAUNCH, NODE, REPLICAS, ROWS, stats_of, wait_for_all
from lib.hardware import this_machine
from lib.processes import BENCH, ServerProcess
from ray.cluster_utils import Cluster

RESULTS = BENCH / "results" / "ray_kills.json"
MOST_S = 10.0
LAYOUTS = {"a spare node": (REPLICAS + 1, 1), "room on the other node": (REPLICAS, 2)}
"""How many nodes there are, and for how many replicas each has room."""


@contextmanager
def daemons(nodes: int, room: int) -> Iterator[list[psutil.Process]]:
    """Those of the nodes of a cluster, each of which has room for so many replicas."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    try:
        found = [cluster.add_node(**NODE, num_cpus=room) for _ in range(nodes)]
        cluster.wait_for_nodes()
        os.environ["RAY_ADDRESS"] = cluster.address
        yield [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in found]
    finally:
        for node in cluster.list_all_nodes():
            node.kill_all_processes(check_alive=False, allow_graceful=False)


def kill_a_node(log: Path, nodes: int, room: int) -> float:
    """The seconds until both replicas of a server are ready again."""
    with daemons(nodes, room) as found, ServerProcess([*LAUNCH, *ROWS, "--cluster", "auto"], log) as server:
        wait_for_all(server)
        daemon = next(filter(has_agent, found))
        daemon.kill()
        daemon.wait()  # as a zombie it would seem to live
        began = time.perf_counter()
        while stats_of(server)["worker_restarts"] == 0:
            time.sleep(0.02)
        wait_for_all(server)
        return time.perf_counter() - began


def has_agent(daemon: psutil.Process) -> bool:
    """Whether a replica has come to a daemon's node."""
    return any("ray::Agent" in " ".join(child.cmdline()) for child in daemon.children())


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    given = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch:
        for name, layout in LAYOUTS.items():
            for number in range(given.kills):
                took = round(kill_a_node(Path(scratch, f"{name} {number}.log"), *layout), 2)
                seconds[name].append(took)
                print(f"{name}: {took} s", flush=True)
    RESULTS.write_text(json.dumps({"machine": asdict(this_machine()), "seconds": seconds}, indent=1) + "\n")
    sys.exit(0 if max(map(max, seconds.values())) < MOST_S else 2)


if __name__ == "__main__":
    main()
