"""`/`, and `/v1/system`: the server as a whole."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app import __version__
from mlx_server.app.config.settings import ApiKey, Settings
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.keys import credential_of
from mlx_server.app.http.services import services
from mlx_server.app.machine.device import Device, find_device
from mlx_server.app.machine.info import hardware_info
from mlx_server.app.machine.sizes import GIBIBYTE
from mlx_server.app.middleware.operator import operator_only
from mlx_server.app.routes import console
from mlx_server.app.routes.management.manager import summary
from mlx_server.schemas.impetus.hardware import HardwareInfo
from mlx_server.schemas.limits import KeyView, ServerLimits
from mlx_server.schemas.mlx_gui import system as schemas
from mlx_server.workers.parent.environment import backend_problem, mlx_backends

DOCS = "/docs"
EMBEDDED = "Whoever embeds this server has to do that: it has no process of its own."


async def root(request: Request) -> Response:
    """What answers here; browsers get the console."""
    if "text/html" in request.headers.get("accept", ""):
        return console.page()
    answer = json_answer(schemas.Root("mlx-server", __version__, "running", DOCS))
    answer.headers["Vary"] = "Accept"
    return answer


async def status(request: Request) -> Response:
    """The machine and the models."""
    fleet = services(request).fleet
    system = await to_thread.run_sync(lambda: describe(hardware_info(), find_device(), mlx_backends()))
    return json_answer(schemas.SystemStatus("running", system, await summary(fleet), system.mlx_compatible))


def describe(hardware: HardwareInfo, device: Device, backends: set[str]) -> schemas.SystemInfo:
    """The machine as clients read it."""
    memory = hardware.memory
    return schemas.SystemInfo(
        platform=platform.system(),
        architecture=platform.machine(),
        processor=hardware.cpu.brand,
        is_apple_silicon=platform.system() == "Darwin" and platform.machine() == "arm64",
        mlx_compatible=bool(backends) and backend_problem(backends) is None,
        backends=sorted(backends),
        memory=schemas.SystemMemory(memory.total_gb, memory.available_gb, memory.used_gb, memory.usage_percent),
        gpu_memory=None if device.kind == "cpu" else gpu_memory(hardware.gpu.name, device),
    )


def gpu_memory(name: str | None, device: Device) -> schemas.GpuMemory:
    """What models may have on the graphics processor."""
    total = device.limit_bytes if device.kind == "metal" else device.total_bytes
    available = min(total, device.available_bytes)
    return schemas.GpuMemory(round(total / GIBIBYTE, 2), round(available / GIBIBYTE, 2), name)


async def limits(request: Request) -> Response:
    """What the server allows; of the keys, the operator sees all, anybody else their own."""
    settings = services(request).fleet.settings
    own = credential_of(request).key
    seen = settings.api_keys if own is None or own.operator else (own,)
    return json_answer(describe_limits(settings, [(key, key == own) for key in seen]))


def describe_limits(settings: Settings, keys: Sequence[tuple[ApiKey, bool]]) -> ServerLimits:
    """The limits as clients read them; of each key, whether it is that of who asks."""
    model = settings.defaults
    return ServerLimits(
        max_models=settings.max_models,
        idle_timeout_s=settings.idle_timeout_s,
        auto_load=settings.auto_load,
        auto_download=settings.auto_download,
        queue_size=model.queue_size,
        queue_timeout_s=model.queue_timeout_s,
        request_timeout_s=model.request_timeout_s,
        default_max_tokens=model.default_max_tokens,
        max_body_bytes=settings.max_body_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        rate_limit=settings.rate_limit,
        cors_origins=list(settings.cors_origins),
        keys=[
            KeyView(
                key.name,
                own,
                key.operator,
                key.max_priority.name.lower(),
                key.limits.requests_per_minute,
                key.limits.tokens_per_minute,
                key.limits.rows,
            )
            for key, own in keys
        ],
    )


@operator_only
async def shutdown(request: Request) -> Response:
    """Let what runs come to its end, then end the server."""
    control = services(request).control
    if not control.shutdown():
        raise HTTPException(501, EMBEDDED)
    return json_answer(schemas.ShuttingDown("Server shutting down"))


@operator_only
async def restart(request: Request) -> Response:
    """Read the configuration and the settings again, without dropping what runs."""
    control = services(request).control
    report = await control.restart()
    if report.error is not None:
        raise HTTPException(500, report.error)
    return json_answer(
        schemas.Restarted(
            "Server restarting with updated settings",
            *map(list, (report.added, report.removed, report.changed, report.unchanged, report.next_start)),
        )
    )
