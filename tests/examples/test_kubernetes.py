"""The manifests are Kubernetes', and name what the server and its image have."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from support.running.servers import ROOT, SCRIPTED, Server, serving

FOLDER = ROOT / "examples" / "kubernetes"
VERSION = "1.34"
RESOURCES = list(yaml.safe_load_all((FOLDER / "mlx-server.yaml").read_text()))
BY_KIND = {resource["kind"]: resource for resource in RESOURCES}
POD = BY_KIND["Deployment"]["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]
IMAGE = (ROOT / "Dockerfile").read_text()
ON_RAY = list(yaml.safe_load_all((FOLDER / "ray-cluster.yaml").read_text()))
RAY_BY_KIND = {resource["kind"]: resource for resource in ON_RAY}
FRONT_END = RAY_BY_KIND["Deployment"]["spec"]["template"]["spec"]["containers"][0]
RAY_CLUSTER = RAY_BY_KIND["RayCluster"]
NODES = (RAY_CLUSTER["spec"]["headGroupSpec"], *RAY_CLUSTER["spec"]["workerGroupSpecs"])


def some(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """A schema of an object with these fields and no others."""
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


TEXT, COUNT, OBJECT = {"type": "string"}, {"type": "integer"}, {"type": "object"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
SPECS_OF_OPERATORS = {
    "PodMonitor": some(
        selector=some(matchLabels=TEXTS),
        podMetricsEndpoints={
            "type": "array",
            "items": some(
                port=TEXT,
                path=TEXT,
                interval=TEXT,
                authorization=some(type=TEXT, credentials=some(("key",), name=TEXT, key=TEXT)),
            ),
        },
    ),
    "RayCluster": some(
        headGroupSpec=some(("template",), rayStartParams=TEXTS, template=OBJECT),
        workerGroupSpecs={
            "type": "array",
            "items": some(
                ("groupName", "template"),
                groupName=TEXT,
                replicas=COUNT,
                minReplicas=COUNT,
                maxReplicas=COUNT,
                rayStartParams=TEXTS,
                template=OBJECT,
            ),
        },
    ),
}
"""Of what Kubernetes itself does not know: the fields that are used here, as their operators have them."""


@pytest.mark.parametrize("resource", [*RESOURCES, *ON_RAY], ids=lambda resource: resource["kind"])
def test_kubernetes_and_operators_know_every_field(resource: dict[str, Any]) -> None:
    schema = SPECS_OF_OPERATORS.get(resource["kind"])
    if schema is None:
        kubernetes_validate.validate(resource, VERSION, strict=True)
        return
    jsonschema.validate(resource["spec"], schema)
    for template in templates(resource["spec"]):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "PodTemplate", "template": template}, VERSION, strict=True
        )


def templates(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those of the pods in an operator's resource."""
    for group in (spec.get("headGroupSpec"), *spec.get("workerGroupSpecs", ())):
        if group is not None:
            yield group["template"]


def test_a_field_that_nobody_knows_is_found() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**BY_KIND["Service"], "ports": 80}, VERSION, strict=True)


@pytest.mark.parametrize("container", [CONTAINER, FRONT_END], ids=["alone", "on Ray"])
def test_the_server_has_the_flags_and_variables(container: dict[str, Any]) -> None:
    documented = (ROOT / "docs" / "flags.md").read_text()
    command, *flags = container["args"]
    assert command == "launch"
    for name in [*(flag.partition("=")[0] for flag in flags), *(variable["name"] for variable in container["env"])]:
        assert f"`{name}`" in documented


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_a_ready_server_passes(scripted_server: Server, probe: str) -> None:
    assert scripted_server.get(CONTAINER[probe]["httpGet"]["path"]).status_code == 200


def test_the_image_has_the_port_the_user_and_the_folders() -> None:
    port = CONTAINER["ports"][0]["containerPort"]
    assert f"EXPOSE {port}\n" in IMAGE
    assert f"USER {POD['spec']['securityContext']['runAsUser']}\n" in IMAGE
    mounted = {mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert mounted - {"/tmp"} == set(yaml.safe_load(re.search(r"VOLUME (.*)", IMAGE)[1]))  # type: ignore[index]


def test_a_pod_has_time_to_drain() -> None:
    drain_s = next(int(flag.partition("=")[2]) for flag in CONTAINER["args"] if flag.startswith("--drain-timeout"))
    wait_s = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["spec"]["terminationGracePeriodSeconds"] > wait_s + drain_s


def test_the_names_agree(scripted_server: Server) -> None:
    labels = POD["metadata"]["labels"].items()
    for selector in (
        BY_KIND["Deployment"]["spec"]["selector"]["matchLabels"],
        BY_KIND["Service"]["spec"]["selector"],
        BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    scaler = BY_KIND["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == BY_KIND["Deployment"]["metadata"]["name"]
    metric = scaler["metrics"][0]["pods"]["metric"]["name"]
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert rule["name"]["as"] == metric
    assert all(query.count(metric) == 1 for query in (rule["seriesQuery"], rule["metricsQuery"]))
    assert f"\n{metric}{{" in scripted_server.get("/metrics").text


def test_prometheus_has_the_key_that_the_server_asks_for() -> None:
    [variable] = CONTAINER["env"]
    monitor = BY_KIND["PodMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= POD["metadata"]["labels"].items()
    [endpoint] = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in CONTAINER["ports"]]
    assert endpoint["authorization"]["credentials"] == variable["valueFrom"]["secretKeyRef"]
    with serving(*SCRIPTED, env={variable["name"]: "from-the-secret"}, until=Server.wait_listening) as server:
        scheme = endpoint["authorization"]["type"]
        told = server.get(endpoint["path"], headers={"Authorization": f"{scheme} from-the-secret"})
        assert told.status_code == 200
        assert server.get(endpoint["path"]).status_code == 401


def test_a_front_end_finds_its_ray_cluster_and_room_for_its_replicas() -> None:
    flags = dict(flag.partition("=")[::2] for flag in FRONT_END["args"])
    head, workers = NODES
    ports = {port["name"]: port["containerPort"] for port in head["template"]["spec"]["containers"][0]["ports"]}
    assert flags["--cluster"] == f"ray://{RAY_CLUSTER['metadata']['name']}-head-svc:{ports['client']}"
    params = workers["rayStartParams"]
    [resources] = shlex.split(params["resources"])  # KubeRay writes it into a shell's line
    assert json.loads(resources)["mlx_memory"] > 0
    container = workers["template"]["spec"]["containers"][0]
    assert {"name": "node-manager", "containerPort": int(params["node-manager-port"])} in container["ports"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert int(flags["--replicas"]) <= workers["minReplicas"] * int(params["num-cpus"])


def test_nodes_and_front_end_have_one_image_with_ray() -> None:
    images = {node["template"]["spec"]["containers"][0]["image"] for node in NODES} | {FRONT_END["image"]}
    [image] = images
    assert f"--build-arg EXTRAS=vlm,ray -t {image} " in (FOLDER / "ray-cluster.yaml").read_text()
    assert "ARG EXTRAS=vlm\n" in IMAGE
