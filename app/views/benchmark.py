"""Measures a model through its queue, as a client's request would go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from anyio import to_thread
from starlette.requests import Request

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.query_queue import Unanswered
from mlx_server.app.http.admission import enqueue
from mlx_server.app.machine.meter import gpu_utilization
from mlx_server.schemas.impetus.loaded import BenchmarkRequest
from mlx_server.schemas.internal.generation import GenerationRequest, Limits, Sampling, TextPrompt
from mlx_server.schemas.internal.messages import Failed, Finished, NoAnswer, Part

WARMUP_TOKENS = 8
SUBJECTS = ("the sea", "a city at night", "how bread is made", "an old machine", "the colour of leaves")


@dataclass(frozen=True)
class Timed:
    """One answer; times in seconds since it was asked for."""

    tokens: int
    time_s: float
    first_token_s: float | None
    gpu_percent: float | None


@dataclass(frozen=True)
class Measured:
    """All answers; `memory_bytes` is the most that the workers held after one of them, None if nobody asked."""

    samples: Sequence[Timed]
    memory_bytes: int | None


async def measure(request: Request, deployment: Deployment, plan: BenchmarkRequest, tenant: str) -> Measured:
    """Answer after answer, each at the cost and priority of who asks.

    Raises Unanswered and what `enqueue` raises; whoever is cancelled gives its place back.
    """
    if plan.include_warmup:
        await sample(request, deployment, prompt_of(0, min(WARMUP_TOKENS, plan.max_tokens), plan.temperature, tenant))
    samples: list[Timed] = []
    memory = 0
    for number in range(1, plan.num_samples + 1):
        asked = prompt_of(number, plan.max_tokens, plan.temperature, tenant)
        samples.append(await sample(request, deployment, asked))
        if plan.include_memory_test:
            memory = max(memory, await to_thread.run_sync(deployment.memory_bytes))
    return Measured(samples, memory if plan.include_memory_test else None)


def prompt_of(number: int, max_tokens: int, temperature: float, tenant: str) -> GenerationRequest:
    """A prompt that no other begins like, so that nothing of it is known, and as many tokens as are asked for."""
    prompt = TextPrompt(f"{number}. A few pages about {SUBJECTS[number % len(SUBJECTS)]}, in plain words.")
    return GenerationRequest(
        (prompt,),
        max_tokens,
        sampling=Sampling(temperature=temperature),
        limits=Limits(ignore_eos=True),
        tenant=tenant,
    )


async def sample(request: Request, deployment: Deployment, asked: GenerationRequest) -> Timed:
    """One answer. Raises Unanswered and what `enqueue` raises."""
    began = time.perf_counter()
    ticket = enqueue(request, deployment.queue, deployment.settle(asked), whole=False)
    tokens, first_s = 0, None
    looking: asyncio.Task[float | None] | None = None
    try:
        while events := await ticket.mailbox.get():
            for event in events:
                match event:
                    case Failed():
                        raise Unanswered(NoAnswer(event.kind, event.message, event.param, event.code))
                    case Finished():
                        tokens += event.completion_tokens
                    case _ if isinstance(event, Part) and first_s is None:
                        first_s = time.perf_counter() - began
                        # What was timed so far would be wrong for an answer that another worker starts over.
                        ticket.sent = True
                        # Beside the answer, whose time this must not change.
                        looking = asyncio.create_task(to_thread.run_sync(gpu_utilization))
        time_s = time.perf_counter() - began
        return Timed(tokens, time_s, first_s, await looking if looking is not None else None)
    finally:
        deployment.queue.cancel(ticket)
        if looking is not None:
            looking.cancel()
