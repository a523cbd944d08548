"""`/v1/audio/speech`: the bytes of a sound, or events with them."""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Sequence

from mlx_server.app.encoders import sse
from mlx_server.app.http.errors import Answer
from mlx_server.schemas.internal.messages import Finished, Result, Sound
from mlx_server.schemas.openai.media import speech as api
from mlx_server.schemas.openai.media.speech import SpeechCreateRequest


class SoundEncoder:
    """The sound itself."""

    def __init__(self, given: SpeechCreateRequest) -> None:
        self.media_type = api.MEDIA_TYPES[given.format]

    def events(self, events: Iterable[Result | Finished]) -> bytes:
        """More of the sound."""
        return b"".join(event.data for event in events if isinstance(event, Sound))

    def end(self) -> bytes:
        """Nothing more."""
        return b""

    def whole(self, events: Sequence[Result | Finished]) -> bytes:
        """All of it."""
        return self.events(events)

    def error(self, answer: Answer) -> bytes:
        """Nothing in a sound can tell."""
        return b""


class SpeechEventsEncoder(SoundEncoder):
    """OpenAI's events."""

    def __init__(self, given: SpeechCreateRequest) -> None:
        super().__init__(given)
        self._characters = len(given.input)
        self._tokens = 0

    def events(self, events: Iterable[Result | Finished]) -> bytes:
        """An event for each piece of the sound."""
        out = []
        for event in events:
            match event:
                case Sound():
                    out.append(sse.event(api.SpeechDelta(binascii.b2a_base64(event.data, newline=False).decode())))
                case Finished():
                    self._tokens = event.completion_tokens
        return b"".join(out)

    def end(self) -> bytes:
        """The last event."""
        usage = api.SpeechUsage(self._characters, self._tokens, self._characters + self._tokens)
        return sse.event(api.SpeechDone(usage))

    def error(self, answer: Answer) -> bytes:
        """A failure after the stream has begun."""
        return sse.error(answer)
