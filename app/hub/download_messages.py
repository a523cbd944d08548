"""What the process that downloads says: one message a line, as JSON."""

from __future__ import annotations

import msgspec


class Arrived(msgspec.Struct, frozen=True, tag="arrived"):
    """So many bytes of all are here."""

    done: int
    total: int


class Whole(msgspec.Struct, frozen=True, tag="whole"):
    """All is here and verified, in this folder. The last message."""

    folder: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """It could not be downloaded; the message is for people. The last message."""

    message: str


FromFetch = Arrived | Whole | Refused

encoder = msgspec.json.Encoder()
decoder: msgspec.json.Decoder[FromFetch] = msgspec.json.Decoder(FromFetch)
