"""What a worker is asked beside its requests: the tokenizer's thread answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import assert_never

from msgspec.structs import replace

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import (
    Answered,
    Ask,
    Decoded,
    FailureKind,
    KeptPrefix,
    NoAnswer,
    PrefixOf,
    Question,
    TextOf,
    Tokens,
    TokensOf,
)
from mlx_server.workers.child.preprocessing import Preprocessing
from mlx_server.workers.handlers.base import Handler

log = logging.getLogger(__name__)

Answer = Tokens | Decoded | KeptPrefix | NoAnswer


class Queries:
    """The queries that are not answered yet. Event loop only."""

    def __init__(self, preparing: Preprocessing, send: Callable[[Answered], None]) -> None:
        self._preparing = preparing
        self._send = send
        self._waiting: dict[int, asyncio.Task[Answer]] = {}

    def ask(self, message: Ask, handler: Handler) -> Coroutine[None, None, None]:
        """Take a question. What is returned sends the answer, unless it is withdrawn before."""
        answering = self._waiting[message.number] = asyncio.ensure_future(self._answer(handler, message.question))
        return self._send_answer(message.number, answering)

    async def _send_answer(self, number: int, answering: asyncio.Task[Answer]) -> None:
        try:
            answer = await answering
        except asyncio.CancelledError:
            return
        finally:
            del self._waiting[number]
        self._send(Answered(number, answer))

    def withdraw(self, number: int) -> None:
        """Forget a question."""
        if answering := self._waiting.get(number):
            answering.cancel()

    async def _answer(self, handler: Handler, question: Question) -> Answer:
        try:
            if isinstance(question, TokensOf | PrefixOf):
                question = replace(question, prompt=await self._preparing.decoded(question.prompt, handler))
            return await self._preparing.tokenized(partial(answer_to, question, handler))
        except InvalidRequest as error:
            return NoAnswer(FailureKind.INVALID, error.message, error.param, error.code)
        except Exception as error:  # noqa: BLE001 - a chat template is a model's own code and may raise anything
            log.warning("a prompt could not be made tokens: %s", type(error).__name__)
            return NoAnswer(FailureKind.ENGINE, f"{type(error).__name__}: {error}")


def answer_to(question: Question, handler: Handler) -> Tokens | Decoded | KeptPrefix:
    """Only what was asked for. Raises InvalidRequest."""
    match question:
        case TokensOf():
            ids = tuple(handler.tokens(question.prompt, question.tool_use, question.tenant))
            if question.want == "count":
                return Tokens(len(ids))
            return Tokens(len(ids), ids, tuple(handler.pieces(ids)) if question.want == "pieces" else ())
        case TextOf():
            return Decoded(handler.text(question.ids))
        case PrefixOf():
            return handler.kept_prefix(question)
        case _:
            assert_never(question)
