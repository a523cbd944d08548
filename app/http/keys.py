"""The API keys that clients may have."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from mlx_server.app.config.settings import ApiKey
from mlx_server.queue.account import ANYBODY, Account, Priority
from mlx_server.schemas.internal.errors import InvalidRequest

CREDENTIAL = "mlx_server.credential"
"""Where a request's scope has what it came with."""

PRIORITY_HEADER = "X-Priority"


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request came with: its account, and the configured key that it is of, where keys are configured."""

    account: Account = ANYBODY
    key: ApiKey | None = None

    @property
    def owner(self) -> str:
        """Whose the things are that are kept for it: its key's, and without configured keys everybody's."""
        return ANYBODY.owner if self.key is None else self.account.owner


class KeyRing:
    """Configured keys; without any, every key is as good as another, or as none."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._accounts: dict[str, Account] = {}
        self.update(keys)

    def update(self, keys: Iterable[ApiKey]) -> None:
        """Other keys from now on; what one has used that stays is not forgotten."""
        self._keys = list(keys)
        self._names = {owner_of(one.key.encode()): one.name for one in self._keys}
        before, self._accounts = self._accounts, {}
        for one in self._keys:
            owner = owner_of(one.key.encode())
            account = self._accounts[owner] = before.get(owner) or Account(owner, configured=True)
            account.limits = one.limits

    def name_of(self, owner: str) -> str | None:
        """What the configuration calls the key that is behind an owner; None of one without a name."""
        return self._names.get(owner)

    @property
    def configured(self) -> bool:
        """Whether clients need a key at all."""
        return bool(self._keys)

    def credential(self, given: Iterable[bytes]) -> Credential | None:
        """What a client is with these keys; None where it needs a key and has none."""
        values = [value for value in given if value]
        if not self._keys:
            return Credential(Account(owner_of(values[0]))) if values else Credential()
        # Every pair is compared, each in constant time: the time tells nothing about the keys.
        same = [(hmac.compare_digest(one.key.encode(), value), one) for one in self._keys for value in values]
        found = next((one for equal, one in same if equal), None)
        return None if found is None else Credential(self._accounts[owner_of(found.key.encode())], found)

    def knows(self, credential: Credential) -> bool:
        """Whether a client that came with it would still be let in, and as the operator or not as then."""
        now, then = self.of_owner(credential.account.owner), credential.key
        return now is not None and (now.key and now.key.operator) == (then and then.operator)

    def of_owner(self, owner: str) -> Credential | None:
        """What a client is whose key `owner` stands for; None where its key is not configured, and has to be."""
        if not self._keys:
            return Credential(Account(owner)) if owner else Credential()
        found = next((one for one in self._keys if owner_of(one.key.encode()) == owner), None)
        return None if found is None else Credential(self._accounts[owner], found)


def owner_of(key: bytes) -> str:
    """What stands for a key wherever it must not be kept itself."""
    return hashlib.sha256(key).hexdigest()


def keys_in(headers: Headers) -> list[bytes]:
    """The keys that a request came with: `Authorization: Bearer …` and `x-api-key`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    # Latin-1 gives back the bytes that were sent, whatever they are.
    return [value.encode("latin-1") for value in (bearer, headers.get("x-api-key", "")) if value]


def credential_of(connection: HTTPConnection) -> Credential:
    """What a request or WebSocket came with, as the middleware found it."""
    found: Credential = connection.scope.get(CREDENTIAL, Credential())
    return found


def priority_of(connection: HTTPConnection) -> Priority:
    """How urgent a request is by its header. Raises InvalidRequest, or HTTPException 403 for more than its key may."""
    word = connection.headers.get(PRIORITY_HEADER, Priority.NORMAL.name).upper()
    if word not in Priority.__members__:
        allowed = ", ".join(name.lower() for name in Priority.__members__)
        raise InvalidRequest(f"`{PRIORITY_HEADER}`: allowed are {allowed}.", PRIORITY_HEADER)
    key, priority = credential_of(connection).key, Priority[word]
    most = Priority.NORMAL if key is None else key.max_priority
    if PRIORITY_HEADER in connection.headers and priority < most:
        raise HTTPException(403, f"`{PRIORITY_HEADER}`: this key may ask for {most.name.lower()} at most.")
    return max(priority, most)
