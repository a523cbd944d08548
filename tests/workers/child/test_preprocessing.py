"""Requests are made ready, or given up."""

import asyncio
from collections.abc import Sequence

import pytest

from mlx_server.schemas.attachments import UNSEEN
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, GenerationRequest, Media, Message
from mlx_server.workers.child.preprocessing import Preprocessing
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.handlers.base import DECODERS
from mlx_server.workers.handlers.scripted import ScriptedHandler


def _prompt(file: bytes) -> ChatPrompt:
    return ChatPrompt((Message("user", "", media=(Media("image", file, 0, "file"),)),))


def test_cancelled_requests_free_the_decoders() -> None:
    asyncio.run(_cancel_and_decode())


async def _cancel_and_decode() -> None:
    preparing, handler = Preprocessing(), ScriptedHandler()
    slow = [asyncio.create_task(preparing.decoded(_prompt(b'{"decode_s": 3600}'), handler)) for _ in range(DECODERS)]
    quick = asyncio.create_task(preparing.decoded(_prompt(b"red"), handler))
    assert (await asyncio.wait([quick], timeout=0.1))[0] == set()
    for task in slow:
        task.cancel()
    try:
        assert await asyncio.wait_for(quick, 30) == _prompt(b"red")
    finally:
        handler.close()
    for task in slow:
        with pytest.raises(asyncio.CancelledError):
            await task


class _Blind(ScriptedHandler):
    """Decodes nothing."""

    kinds = ()


def test_what_a_tool_shows_is_not_decoded_for_a_model_that_can_not_see_it() -> None:
    picture = Media("image", b'{"decode_s": 3600}', 0, "file")
    request = GenerationRequest((ChatPrompt((Message("tool", "", media=(picture,)),)),), 8)
    made = asyncio.run(Preprocessing().decoded(request, _Blind()))
    assert made.ignored == ("file",)
    assert made.prompts == (ChatPrompt((Message("tool", UNSEEN["image"]),)),)


class _Picky(ScriptedHandler):
    """Decodes red pictures only."""

    def decode(self, media: Sequence[Media], abandoned: IsCancelled = never) -> Sequence[Media]:
        for one in media:
            if one.source != b"red":
                raise InvalidRequest(f"`{one.param}`: it is not red.", one.param)
        return media


def test_what_a_tool_shows_and_can_not_be_decoded_is_words() -> None:
    shown = tuple(Media("image", source, 0, source.decode()) for source in (b"blue", b"red", b"green"))
    request = GenerationRequest((ChatPrompt((Message("tool", "", media=shown),)),), 8)
    made = asyncio.run(Preprocessing().decoded(request, _Picky()))
    assert sorted(made.ignored) == ["blue", "green"]
    [prompt] = made.prompts
    assert isinstance(prompt, ChatPrompt)
    assert [one.source for one in prompt.messages[0].media] == [b"red"]
    told = "[An image is here that can't be shown: it is not red.]"
    assert prompt.messages[0].content == told + told
    assert prompt.messages[0].media[0].at == len(told)
    with pytest.raises(InvalidRequest):
        asyncio.run(Preprocessing().decoded(_prompt(b"blue"), _Picky()))
