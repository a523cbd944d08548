"""Dashboards and alerts ask for what the server has."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.running.servers import ROOT, Server

FOLDER = ROOT / "examples" / "monitoring"
OF_PROMETHEUS = {"up"}
ADDED_BY_PROMETHEUS = {"instance", "job"}


def queries() -> list[str]:
    """What the dashboard's panels and the alerts ask for, with the dashboard's variable filled in."""
    panels = json.loads((FOLDER / "grafana.json").read_text())["panels"]
    asked = [target["expr"].replace("$model", ".*") for panel in panels for target in panel["targets"]]
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    return asked + [rule["expr"] for rule in rules]


def selectors(expression: Any) -> Iterator[Any]:
    """The selections of samples in an expression."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if (inner := getattr(expression, name, None)) is not None:
            yield from selectors(inner)
    for inner in getattr(expression, "args", ()):
        yield from selectors(inner)


@pytest.fixture(scope="module")
def samples(scripted_server: Server) -> dict[str, set[str]]:
    """The labels of the server's samples by their names, as OpenMetrics tells them."""
    scripted_server.chat("one two three")
    told = scripted_server.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert told.headers["content-type"].startswith("application/openmetrics-text")
    families = text_string_to_metric_families(told.text)
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


@pytest.mark.parametrize("query", queries())
def test_a_query_selects_samples_that_there_are(samples: dict[str, set[str]], query: str) -> None:
    found = list(selectors(promql_parser.parse(query)))
    assert found
    for one in found:
        assert one.name in samples.keys() | OF_PROMETHEUS
        matched = {matcher.name for matcher in one.matchers.matchers}
        assert matched <= samples.get(one.name, set()) | ADDED_BY_PROMETHEUS


def test_prometheus_reads_the_alerts() -> None:
    settings = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert all(Path(FOLDER, name).is_file() for name in settings["rule_files"])
    assert [job["job_name"] for job in settings["scrape_configs"]] == ["mlx-server"]
