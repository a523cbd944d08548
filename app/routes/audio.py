"""`/v1/audio/…`: decode, admit, answer."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.encoders.speech import SoundEncoder, SpeechEventsEncoder
from mlx_server.app.encoders.transcripts import TranscriptEncoder
from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.media_response import MediaResponse
from mlx_server.app.http.multipart import Form, read_form
from mlx_server.app.http.services import services
from mlx_server.app.routes.generation import choose, read_request
from mlx_server.app.routes.query import query_of
from mlx_server.app.views.capabilities import check_served
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import ModelFacts
from mlx_server.schemas.openai.media import speech as speech_api
from mlx_server.schemas.openai.media import transcriptions as api
from mlx_server.schemas.openai.media.speech import Voice, VoiceList
from mlx_server.schemas.openai.media.transcriptions import TranscriptionForm
from mlx_server.schemas.parsing.forms import parse_form
from mlx_server.schemas.parsing.unknown_fields import refuse_unknown


async def transcriptions(request: Request) -> MediaResponse:
    """What is said in a recording."""
    return await write_down(request, translate=False)


async def translations(request: Request) -> MediaResponse:
    """What is said in a recording, in English."""
    return await write_down(request, translate=True)


async def write_down(request: Request, *, translate: bool) -> MediaResponse:
    """Read the form, queue its recording and answer. Raises InvalidRequest, QueueFull, QueueClosed, FleetError,
    HTTPException or ClientDisconnect."""
    found = services(request)
    form = await read_form(request, found.uploads, found.settings.max_upload_bytes)
    try:
        return await admit_recording(request, form, translate=translate)
    except BaseException:
        form.close()
        raise


async def admit_recording(request: Request, form: Form, *, translate: bool) -> MediaResponse:
    """Queue the recording of a form and answer it; the form is closed at the end."""
    settings = services(request).settings
    given, ignored = read_fields(form, strict=settings.strict_params)
    recording = form.file("file")
    if not recording.size:
        raise InvalidRequest("`file` is empty.", "file")
    deployment = await choose(request, given)
    work = given.to_work(recording.path, translate=translate)
    check_served(deployment.type, work)
    queue = deployment.current.queue
    ticket = queue.submit(work, whole=not given.stream)
    return MediaResponse(
        queue,
        ticket,
        TranscriptEncoder(given, translate=translate),
        stream=bool(given.stream),
        keepalive_s=settings.keepalive_s,
        headers=ignored_header(ignored),
        release=form.close,
    )


def read_fields(form: Form, *, strict: bool) -> tuple[TranscriptionForm, list[str]]:
    """The fields of a form beside its file, and the names of those that change nothing. Raises InvalidRequest."""
    fields = api.to_plain(form.fields)
    for name, why in api.UNSERVED.items():
        if name in fields:
            raise InvalidRequest(f"`{name}` is not supported: {why}. Leave it out.", name, "unsupported_parameter")
    given, unknown = parse_form(fields, TranscriptionForm)
    if strict:
        refuse_unknown(unknown)
    if given.chunking_strategy is not None:
        unknown.append("chunking_strategy")
    return given, unknown


async def speech(request: Request) -> MediaResponse:
    """A text read aloud: its first sentence is heard while the others are computed."""
    given, ignored = await read_request(request, speech_api.decoder, speech_api.HARMLESS)
    settings = services(request).settings
    work = given.to_work(settings.max_speech_characters)
    deployment = await choose(request, given)
    check_served(deployment.type, work)
    queue = deployment.current.queue
    as_events = given.stream_format == "sse"
    return MediaResponse(
        queue,
        queue.submit(work, whole=False),
        SpeechEventsEncoder(given) if as_events else SoundEncoder(given),
        stream=True,
        as_events=as_events,
        keepalive_s=settings.keepalive_s,
        headers=ignored_header(ignored),
    )


async def voices(request: Request) -> Response:
    """The voices of the models that speak and are loaded; of one model, if the query names it."""
    query = query_of(request, ("model",))
    fleet = services(request).fleet
    found = [await fleet.choose(query["model"])] if "model" in query else fleet.deployments
    named = [Voice(voice, voice, one.name) for one in found if one.facts is not None for voice in voices_of(one.facts)]
    return json_answer(VoiceList(named, [*dict.fromkeys(voice.id for voice in named)]))


def voices_of(facts: ModelFacts) -> tuple[str, ...]:
    """Its own, 'default' for the only one of a model that names none."""
    return (facts.voices or ("default",)) if facts.speaks else ()
