"""`/v1/responses`: OpenAI's Responses API on the same path as every other; what it keeps, its owner alone can read."""

from __future__ import annotations

from typing import TypeVar

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.encoders.openai_responses import HowSampled, ResponsesEncoder, WarmUpEncoder
from mlx_server.app.encoders.openai_responses_compact import CompactEncoder, SummaryEncoder
from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.http.responder import EVENTS, WatchedResponse, start_of_stream
from mlx_server.app.http.services import services
from mlx_server.app.responses.background import Run
from mlx_server.app.responses.response_memory import MEMORY, WARM_UP, ResponseMemory
from mlx_server.app.responses.response_records import (
    PREVIOUS,
    ResponseSaver,
    conversation_items,
    earlier,
    events_of,
    items_of,
    response_of,
)
from mlx_server.app.responses.response_store import ChainTooLongError, Record
from mlx_server.app.routes.generation import admit, choose, choose_free, make_head, read_request, submit
from mlx_server.app.routes.query import INCLUDE, flag, number, query_of
from mlx_server.app.routes.stored_items import as_json, owner_of, page_of, referred_to
from mlx_server.app.routes.tokens import ask_tokens
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import NO_LIMIT, Sampling
from mlx_server.schemas.internal.messages import TokensOf
from mlx_server.schemas.openai import responses as openai_responses
from mlx_server.schemas.openai import responses_compact as openai_responses_compact
from mlx_server.schemas.openai.responses import HARMLESS, ResponsesRequest, Turn, WarmUp
from mlx_server.schemas.openai.responses_answer import ENDS, Deleted, InputTokens
from mlx_server.schemas.openai.responses_compact import Compaction, TriggeredSummary, triggers
from mlx_server.schemas.openai.responses_items import Item

Kind = TypeVar("Kind", bound=Turn)

ALIVE = b": still at it\n"
"""A comment in a stream whose events have numbers and stay the same. It has no empty line: where events have ids,
OpenAI's SDK takes that for the end of an event without data."""

NO_STREAM = "Only a response that was created with both `background` and `stream` can be streamed later."
NOT_BACKGROUND = "Only a response that was created with `background` can be cancelled."


async def create(request: Request) -> ASGIApp:
    """Make a response: while the client waits, or in the background."""
    given, ignored = await read_request(request, openai_responses.decoder, HARMLESS)
    store = services(request).response_store
    if store is None and (given.store or given.background):
        param = "background" if given.background else "store"
        raise InvalidRequest(f"`{param}`: this server keeps no responses; leave it out, or set it to false.", param)
    turn_class, encoder_class = classes_for(request, given)
    turn = await turn_of(request, given, turn_class)
    stored = store is not None and given.store is not False
    deployment = await choose_free(request, turn)
    encoder = encoder_class(make_head(request, deployment, turn), turn, how_sampled(deployment), store=stored)
    saver = ResponseSaver(store, owner_of(request), turn, memory_of(request), stored=stored)

    async def keep(last: bytes) -> bytes:
        return last if await saver.save(encoder.response) else encoder.unkept(last)

    if not given.background:
        return await admit(request, deployment, turn, encoder, ignored, keep)
    queue, ticket = await submit(request, deployment, turn)
    run = Run(queue, ticket, encoder, saver, streamed=bool(given.stream))
    headers = ignored_header((*ignored, *ticket.ignored))
    services(request).background_runs.start(run)
    await run.saved.wait()
    if given.stream:
        return FollowingResponse(run, 0, headers, services(request).settings.keepalive_s)
    return as_json(run.response, headers)


def classes_for(request: Request, given: ResponsesRequest) -> tuple[type[Turn], type[ResponsesEncoder]]:
    """What becomes of a request for a response: an answer, a summary, or only its prompt is read."""
    if request.scope.get(WARM_UP):
        return WarmUp, WarmUpEncoder
    return (TriggeredSummary, SummaryEncoder) if triggers(given) else (Turn, ResponsesEncoder)


async def compact(request: Request) -> ASGIApp:
    """Make a conversation shorter: its user's words, and a summary that the model writes."""
    given, ignored = await read_request(request, openai_responses_compact.decoder, HARMLESS)
    asked = await turn_of(request, given, Compaction)
    deployment = await choose_free(request, asked)
    encoder = CompactEncoder(make_head(request, deployment, asked), asked)
    return await admit(request, deployment, asked, encoder, [*ignored, *unheeded(given)])


async def input_tokens(request: Request) -> Response:
    """How many tokens the prompt of a request would have."""
    given, ignored = await read_request(request, openai_responses.decoder, HARMLESS)
    turn = await turn_of(request, given, Turn)
    deployment = await choose(request, turn)
    asked = turn.to_generation(NO_LIMIT)
    [prompt] = asked.prompts
    found = await ask_tokens(request, deployment, TokensOf(prompt, asked.tool_use, "count"))
    return as_json(InputTokens(found.count), ignored_header((*ignored, *unheeded(given), *asked.ignored)))


async def one(request: Request) -> ASGIApp:
    """A response by its id."""
    return await (delete(request) if request.method == "DELETE" else retrieve(request))


async def retrieve(request: Request) -> ASGIApp:
    """A response as it is now, or the events of its stream from any point on."""
    query = query_of(request, ("stream", "starting_after", "include_obfuscation", *INCLUDE))
    stream = flag(query.get("stream"), "stream")
    if "starting_after" in query and not stream:
        raise InvalidRequest("`starting_after` is only allowed when `stream` is true.", "starting_after")
    first = number(query.get("starting_after", "-1"), "starting_after", -1, 2**31) + 1
    obfuscates = flag(query.get("include_obfuscation"), "include_obfuscation")
    headers = ignored_header(["include_obfuscation"] if obfuscates else [])
    run = run_of(request)
    if run is not None:
        if stream and not run.streamed:
            raise InvalidRequest(NO_STREAM, "stream")
        if not stream:
            return as_json(run.response, headers)
        return FollowingResponse(run, first, headers, services(request).settings.keepalive_s)
    record = await record_of(request)
    if not stream:
        return as_json(response_of(record), headers)
    events = events_of(record)
    if not events:
        raise InvalidRequest(NO_STREAM, "stream")
    return Response(
        b"".join(events[first:]), media_type="text/event-stream", headers={"Cache-Control": "no-cache", **headers}
    )


async def delete(request: Request) -> Response:
    """Forget a response; one that is still being made ends now."""
    if (run := run_of(request)) is not None:
        run.cancel()
        await run.ended.wait()
        services(request).background_runs.forget(run)
    id_ = request.path_params["id"]
    store = services(request).response_store
    deleted = store is not None and await store.delete(id_, owner_of(request))
    if not deleted and (run is None or run.kept):
        raise unknown(id_)
    return as_json(Deleted(id_))


async def cancel(request: Request) -> Response:
    """End a response that is made in the background; one that has ended stays as it is."""
    if (run := run_of(request)) is not None:
        run.cancel()
        await run.ended.wait()
        return as_json(run.response)
    response = response_of(await record_of(request))
    if not response.background:
        raise InvalidRequest(NOT_BACKGROUND)
    return as_json(response)


async def input_items(request: Request) -> Response:
    """A response's input: a page of the items of its whole conversation, the newest first."""
    query = query_of(request, ("limit", "order", "after", *INCLUDE))
    page = page_of(query)
    items = list(items_of(await records_of(request), all_outputs=False))
    if not page.ascending:
        items.reverse()
    if page.after is not None:
        ids = [item.id for item in items]
        if page.after not in ids:
            raise page.unknown()
        items = items[ids.index(page.after) + 1 :]
    return as_json(page.of(items))


class FollowingResponse(WatchedResponse):
    """Streams a background response from event `first` on. Its client may leave: the response goes on.

    After `keepalive_s` seconds without an event (0: never) it shows that it lives.
    """

    def __init__(self, run: Run, first: int, headers: dict[str, str], keepalive_s: float) -> None:
        self._run = run
        self._next = first
        self._headers = headers
        self._keepalive_s = keepalive_s

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what there is, then what comes."""
        scope[EVENTS] = True
        await send(start_of_stream(self._headers))
        while await self._has_more(send):
            events = self._run.events[self._next :]
            self._next += len(events)
            await send({"type": "http.response.body", "body": b"".join(events), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _has_more(self, send: Send) -> bool:
        """Whether there are more events, once that is known."""
        while True:
            with anyio.move_on_after(self._keepalive_s or None):
                return await self._run.more_than(self._next)
            await send({"type": "http.response.body", "body": ALIVE, "more_body": True})


def how_sampled(deployment: Deployment) -> HowSampled:
    """A function that gives the sampling in force: the model that decides it may still be loading."""

    def sampling(given: Sampling) -> Sampling | None:
        return deployment.current.sampling_in_force(given)

    return sampling


def unheeded(given: ResponsesRequest) -> list[str]:
    """The fields that change nothing where no response is made: there is nothing to stream or to store."""
    return [name for name in ("background", "store", "stream") if getattr(given, name)]


async def turn_of(request: Request, given: ResponsesRequest, kind: type[Kind]) -> Kind:
    """A request with the conversation that it continues. Raises InvalidRequest, or HTTPException 404."""
    given.check()
    return kind(given, await earlier_items(request, given), await referred_to(request, given.input or []))


async def earlier_items(request: Request, given: ResponsesRequest) -> tuple[Item, ...]:
    """The items of the conversation so far. Raises InvalidRequest, or HTTPException 404."""
    settings = services(request).settings
    owner, previous, conversation = owner_of(request), given.previous_response_id, given.conversation_ref
    if conversation is not None and previous is None:
        return await conversation_items(
            services(request).response_store, conversation.id, owner, settings.max_body_bytes
        )
    if previous is None:
        return ()
    memory = memory_of(request)
    if memory is not None and (items := memory.take(previous)) is not None:
        return items
    run = services(request).background_runs.get(previous, owner)
    if run is not None and run.response.status not in ENDS:
        raise InvalidRequest(f"`{PREVIOUS}`: the response {previous!r} is not complete yet.", PREVIOUS)
    if run is not None and not run.kept and run.response.conversation is None:
        return run.said
    return await earlier(services(request).response_store, previous, owner, settings.max_body_bytes)


def memory_of(request: Request) -> ResponseMemory | None:
    """The connection's own memory of responses, if it has one."""
    memory: ResponseMemory | None = request.scope.get(MEMORY)
    return memory


def run_of(request: Request) -> Run | None:
    """The response of the path, if it is being made, or refused by the store."""
    return services(request).background_runs.get(request.path_params["id"], owner_of(request))


async def record_of(request: Request) -> Record:
    """The kept response of the path. Raises HTTPException 404."""
    id_ = request.path_params["id"]
    store = services(request).response_store
    record = await store.get(id_, owner_of(request)) if store is not None else None
    if record is None:
        raise unknown(id_)
    return record


async def records_of(request: Request) -> list[Record]:
    """It and all that it follows, as far as that is kept. Raises HTTPException 404 or InvalidRequest."""
    settings = services(request).settings
    id_ = request.path_params["id"]
    store = services(request).response_store
    try:
        records = await store.chain(id_, owner_of(request), settings.max_body_bytes) if store is not None else []
    except ChainTooLongError:
        raise InvalidRequest(f"The conversation is larger than {settings.max_body_bytes} bytes.") from None
    if not records:
        raise unknown(id_)
    return records


def unknown(id_: str) -> HTTPException:
    """One error for responses that never existed, were deleted, or belong to another key."""
    return HTTPException(404, f"There is no response {id_[:200]!r}; it may have been deleted, or not stored.")
