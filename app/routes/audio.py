"""`/v1/audio/…`: decode, admit, answer."""

from __future__ import annotations

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.catalog.voices import voices_of
from mlx_server.app.encoders.speech import SoundEncoder, SpeechEventsEncoder
from mlx_server.app.encoders.transcripts import TranscriptEncoder
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.media_response import MediaResponse
from mlx_server.app.http.multipart import Form
from mlx_server.app.http.services import services
from mlx_server.app.routes.generation import read_request
from mlx_server.app.routes.media import admit_media, answer_form
from mlx_server.app.routes.query import query_of
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai.media import speech as speech_api
from mlx_server.schemas.openai.media import transcriptions as api
from mlx_server.schemas.openai.media.speech import Voice, VoiceList
from mlx_server.schemas.openai.media.transcriptions import TranscriptionForm


async def transcriptions(request: Request) -> MediaResponse:
    """What is said in a recording."""
    return await write_down(request, translate=False)


async def translations(request: Request) -> MediaResponse:
    """What is said in a recording, in English."""
    return await write_down(request, translate=True)


async def write_down(request: Request, *, translate: bool) -> MediaResponse:
    """Read the form, queue its recording and answer; the form is closed at the end."""

    async def answered(form: Form, given: TranscriptionForm, ignored: list[str]) -> MediaResponse:
        recording = form.file("file")
        if not recording.size:
            raise InvalidRequest("`file` is empty.", "file")
        work = given.to_work(recording.path, translate=translate)
        encoder = TranscriptEncoder(given, translate=translate)
        unused = (*ignored, *given.ignored)
        return await admit_media(request, given, work, encoder, unused, stream=bool(given.stream), release=form.close)

    return await answer_form(request, api.decoder, answered)


async def speech(request: Request) -> MediaResponse:
    """A text read aloud: its first sentence is heard while the others are computed."""
    given, ignored = await read_request(request, speech_api.decoder, speech_api.HARMLESS)
    work = given.to_work(services(request).settings.max_speech_characters)
    as_events = given.stream_format == "sse"
    encoder = SpeechEventsEncoder(given) if as_events else SoundEncoder(given)
    return await admit_media(request, given, work, encoder, ignored, stream=True, as_events=as_events)


async def voices(request: Request) -> Response:
    """The voices of all models that may be named, loaded or not; of one model, if the query names it."""
    query = query_of(request, ("model",))
    fleet = services(request).fleet
    known = [await fleet.deployment_of(query["model"])] if "model" in query else await fleet.available()
    speakers = [(one.name, one.settings) for one in known]

    def found() -> list[Voice]:
        return [Voice(voice, voice, name) for name, settings in speakers for voice in voices_of(settings)]

    named = await to_thread.run_sync(found)
    return json_answer(VoiceList(named, [*dict.fromkeys(voice.id for voice in named)]))
