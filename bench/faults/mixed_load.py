"""What a server is asked in a soak: all that clients do, in turns."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from asking import ask, chat, head
from lib.pictures import content, pictures
from world import GRAMMAR

TEXT, SLIDING, RECURRENT, SIGHTED, SWITCHED = "text", "sliding", "recurrent", "sighted", ("first", "second")
"""The names of the models; those that are switched have one place together."""

TOKENS, MANY_TOKENS = 24, 96
WORD = "word "
SHORT_WORDS, LONG_WORDS = 8, 300
SEEN = 8
"""So many distinct pictures."""

Body = dict[str, Any]

CROWD = 4
"""Pictures that a client shows at once, before anything counts."""


class MixedLoad:
    """Clients that ask until they are told to stop; `ends` counts their requests by kind and end."""

    def __init__(self, url: str, seed: int = 0) -> None:
        self._url = url
        self._choose = random.Random(seed)
        self._pictures = [content(*each) for each in pictures(SEEN)]
        self._stopping = False
        self.ends: Counter[str] = Counter()
        self._kinds: dict[str, Callable[[], Awaitable[str]]] = {
            "short": lambda: self._ask(chat(TEXT, self._prompt(SHORT_WORDS), max_tokens=TOKENS)),
            "long": lambda: self._ask(chat(TEXT, self._prompt(LONG_WORDS), max_tokens=MANY_TOKENS)),
            "streamed": lambda: self._ask(chat(TEXT, self._prompt(SHORT_WORDS), stream=True, max_tokens=MANY_TOKENS)),
            "constrained": lambda: self._ask(chat(TEXT, self._prompt(SHORT_WORDS), max_tokens=TOKENS, **GRAMMAR)),
            "refused": lambda: self._ask(chat(TEXT, "x", max_tokens=-1)),
            "cancelled": self._cancel,
            "picture": lambda: self._ask(self._shown()),
            "sliding": lambda: self._ask(chat(SLIDING, self._prompt(40), max_tokens=TOKENS)),
            "recurrent": lambda: self._ask(chat(RECURRENT, self._prompt(40), max_tokens=TOKENS)),
        }

    async def run(self, clients: int, switch_every_s: float) -> None:
        """Ask with so many clients, and one that has a model loaded in the place of another now and then."""
        await asyncio.gather(*(self._client() for _ in range(clients)), self._switch(switch_every_s))

    async def everything(self) -> None:
        """Ask for each thing once. Of as many clients at once as there will be, all opens what it needs."""
        for kind, asked in self._kinds.items():
            self.ends[f"{kind}: {await asked()}"] += 1
        # Each thread that reads pictures opens a process of its own, the second one once there is a crowd.
        for end in await asyncio.gather(*(self._kinds["picture"]() for _ in range(CROWD))):
            self.ends[f"picture: {end}"] += 1
        for model in (*SWITCHED, *SWITCHED):
            self.ends[f"switch: {await self._ask(chat(model, self._prompt(SHORT_WORDS), max_tokens=4))}"] += 1

    def stop(self) -> None:
        """Take no new requests; `run` returns once the last has ended."""
        self._stopping = True

    async def _client(self) -> None:
        while not self._stopping:
            kind = self._choose.choice(list(self._kinds))
            self.ends[f"{kind}: {await self._kinds[kind]()}"] += 1

    async def _switch(self, every_s: float) -> None:
        number = 0
        while not self._stopping:
            end = await self._ask(chat(SWITCHED[number % 2], self._prompt(SHORT_WORDS), max_tokens=4))
            self.ends[f"switch: {end}"] += 1
            number += 1
            await asyncio.sleep(every_s)

    async def _ask(self, body: Body) -> str:
        row = await ask(self._url, body, None)
        return row.outcome if row.status in (0, 200) else str(row.status)

    async def _cancel(self) -> str:
        """Leave after a random part of the answer."""
        place = urlsplit(self._url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(head(chat(TEXT, self._prompt(LONG_WORDS), stream=True, max_tokens=MANY_TOKENS)))
        await reader.read(self._choose.choice((1, 1 << 10, 1 << 12)))
        writer.transport.abort()
        return "left"

    def _shown(self) -> Body:
        shown = self._choose.choice(self._pictures)
        return chat(SIGHTED, "", max_tokens=TOKENS) | {"messages": [{"role": "user", "content": shown}]}

    def _prompt(self, words: int) -> str:
        """One of many: some come again, and are known then."""
        return f"{self._choose.randrange(200)} " + WORD * self._choose.randint(1, words)
