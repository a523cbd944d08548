"""What a worker is asked beside its requests: the tokenizer's thread answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import assert_never

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.messages import (
    Answered,
    Ask,
    Decoded,
    FailureKind,
    NoAnswer,
    Question,
    TextOf,
    Tokens,
    TokensOf,
)
from mlx_server.workers.handlers.base import Handler
from mlx_server.workers.stopwatch import Stopwatch

log = logging.getLogger(__name__)

Answer = Tokens | Decoded | NoAnswer


class Questions:
    """Those that are not answered yet. The methods are for the event loop's thread."""

    def __init__(self, tokenizer: Executor, busy: Stopwatch, send: Callable[[Answered], None]) -> None:
        self._tokenizer = tokenizer
        self._busy = busy
        self._send = send
        self._waiting: dict[int, Future[Answer]] = {}

    def ask(self, message: Ask, handler: Handler) -> Coroutine[None, None, None]:
        """Take a question. What is returned sends the answer, unless it is withdrawn before its turn comes."""
        future = self._tokenizer.submit(self._answer, handler, message.question)
        self._waiting[message.number] = future
        return self._send_answer(message.number, future)

    async def _send_answer(self, number: int, future: Future[Answer]) -> None:
        try:
            answer = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            return
        finally:
            del self._waiting[number]
        self._send(Answered(number, answer))

    def withdraw(self, number: int) -> None:
        """Forget a question that has not been begun."""
        if future := self._waiting.get(number):
            future.cancel()

    def _answer(self, handler: Handler, question: Question) -> Answer:
        with self._busy:
            try:
                return answer_to(question, handler)
            except InvalidRequest as error:
                return NoAnswer(FailureKind.INVALID, error.message, error.param, error.code)
            except Exception as error:  # noqa: BLE001 - a chat template is a model's own code and may raise anything
                log.warning("a prompt could not be made tokens: %s", type(error).__name__)
                return NoAnswer(FailureKind.ENGINE, f"{type(error).__name__}: {error}")


def answer_to(question: Question, handler: Handler) -> Tokens | Decoded:
    """Only what was asked for. Raises InvalidRequest."""
    match question:
        case TokensOf():
            ids = tuple(handler.tokens(question.prompt, question.tool_use))
            if question.want == "count":
                return Tokens(len(ids))
            return Tokens(len(ids), ids, tuple(handler.pieces(ids)) if question.want == "pieces" else ())
        case TextOf():
            return Decoded(handler.text(question.ids))
        case _:
            assert_never(question)
