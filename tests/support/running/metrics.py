"""What a server says to Prometheus."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from support.running.servers import Server

PREFIX = "mlx_server_"


def families(server: Server) -> dict[str, Metric]:
    """All families by name, without the prefix that they share."""
    found = {family.name: family for family in text_string_to_metric_families(server.get("/metrics").text)}
    assert all(name.startswith(PREFIX) for name in found)
    return {name.removeprefix(PREFIX): family for name, family in found.items()}


def value(server: Server, name: str, **labels: str) -> float:
    """One sample's value; labels other than `model` have to be given."""
    [found] = [
        sample.value
        for family in families(server).values()
        for sample in family.samples
        if sample.name == PREFIX + name and {k: v for k, v in sample.labels.items() if k != "model"} == labels
    ]
    return float(found)
