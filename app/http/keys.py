"""The API keys that clients may have."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers


class KeyRing:
    """Configured keys; without any, every key is as good as another, or as none."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = [key.encode() for key in keys]

    @property
    def configured(self) -> bool:
        """Whether clients need a key at all."""
        return bool(self._keys)

    def accepted(self, given: Iterable[bytes]) -> list[bytes]:
        """Those of a client's keys that let it in: any, where none is configured."""
        keys = [key for key in given if key]
        if not self._keys:
            return keys
        # Every pair is compared, each in constant time: the time tells nothing about the keys.
        same = [(hmac.compare_digest(key, value), value) for key in self._keys for value in keys]
        return [value for equal, value in same if equal]

    def lets_in(self, given: Iterable[bytes]) -> bool:
        """Whether a client with these keys may come in."""
        return not self._keys or bool(self.accepted(given))


def keys_in(headers: Headers) -> list[bytes]:
    """The keys that a request came with: `Authorization: Bearer …` and `x-api-key`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    # Latin-1 gives back the bytes that were sent, whatever they are.
    return [value.encode("latin-1") for value in (bearer, headers.get("x-api-key", "")) if value]
