"""Canaries of real models: they pass, are nobody's requests, and leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from support.running.fleets import LONG_S, end_of, settings_of, started, submit, until
from support.running.servers import ROOT

from mlx_server.app.config.settings import ModelSettings, ModelType
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.schemas.internal.messages import Finished
from mlx_server.workers.parent.supervisor import Patience

pytestmark = pytest.mark.model
OFTEN = Patience(canary_s=0.1, check_s=0.05)


@pytest.mark.parametrize("kind", ["llama", "mamba", "shapes"])
def test_models_that_write_pass_without_a_request_being_counted(tiny_model: Callable[[str], Path], kind: str) -> None:
    path = ROOT / "tests" / "shapes" / "model" if kind == "shapes" else tiny_model(kind)
    typed: ModelType = "vlm" if kind == "shapes" else "lm"

    async def scenario() -> None:
        fleet = Fleet(settings_of(ModelSettings(str(path), typed, "tiny"), patience=OFTEN))
        async with started(fleet, LONG_S):
            [deployment] = fleet.deployments
            await until(lambda: deployment.canaries["passed"] >= 3)
            assert deployment.queue.statistics.served == deployment.queue.statistics.completion_tokens == 0
            ends = [await end_of(submit(deployment, "a b c d e f")) for _ in range(2)]
            assert all(isinstance(end, Finished) for end in ends)
            assert (deployment.canaries["failed"], deployment.restarts) == (0, 0)

    asyncio.run(scenario())


def test_a_model_that_only_canaries_use_is_unloaded_for_idleness(tiny_model: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        model = ModelSettings(str(tiny_model("llama")), "lm", "tiny", idle_timeout_s=2.0)
        async with started(Fleet(settings_of(model, patience=OFTEN)), LONG_S) as fleet:
            [deployment] = fleet.deployments
            await until(lambda: not deployment.replicas)
            assert deployment.canaries["passed"] >= 3

    asyncio.run(scenario())
