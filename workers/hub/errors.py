"""What can go wrong with the hub. Each message is one line for a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError


class HubError(Exception):
    """Raised when the hub can't give what was asked for."""


class HubOffline(HubError):  # noqa: N818 - named for the fact
    """Raised when the hub does not answer, or answers that it can't."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The Hugging Face hub can't be reached ({why}). Models on this machine can still be used;"
            " check the connection, or HF_ENDPOINT for a mirror."
        )


class HubNotFound(HubError):  # noqa: N818 - named for the fact
    """Raised when there is no such repository, or none that may be seen without a token."""

    def __init__(self, repo_id: str) -> None:
        super().__init__(f"There is no model {repo_id} on the hub. If it is private, set HF_TOKEN.")


class NotAHubId(HubError):  # noqa: N818 - named for the fact
    """Raised when a text can't name a repository."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:200]!r} is no hub id: give author/name, such as mlx-community/Qwen3-0.6B-4bit.")


class HubDenied(HubError):  # noqa: N818 - named for the fact
    """Raised when the hub does not give a repository to this user."""

    def __init__(self, repo_id: str) -> None:
        super().__init__(
            f"The hub does not give access to {repo_id}: accept its terms on its page there if it is gated, then set"
            " HF_TOKEN to a token that may read it and start the server again."
        )


class HubBusy(HubError):  # noqa: N818 - named for the fact
    """Raised when the hub asks to come again later."""

    def __init__(self) -> None:
        super().__init__("The hub takes no more requests from here for now; try again later, or set HF_TOKEN.")


class DownloadBroken(HubError):  # noqa: N818 - named for the fact
    """Raised when a file did not arrive whole; what has arrived is kept."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} did not arrive whole: {why}. What has arrived is kept; start again to go on.")


class ChecksumMismatch(HubError):  # noqa: N818 - named for the fact
    """Raised when a file is not what the hub says it is; it is removed."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(
            f"{path} is damaged: its checksum is {found[:12]}..., the hub says {expected[:12]}...; it was removed."
            " Start the download again."
        )


class NotEnoughDisk(HubError):  # noqa: N818 - named for the fact
    """Raised before a download that the disk has no room for."""

    def __init__(self, repo_id: str, needed: int, free: int, folder: str) -> None:
        super().__init__(
            f"Not enough disk space for {repo_id}: {needed / 1e9:.1f} GB are still to come, {free / 1e9:.1f} GB are"
            f" free in {folder}."
        )


class NothingToServe(HubError):  # noqa: N818 - named for the fact
    """Raised when a repository has no weights that MLX reads."""

    def __init__(self, repo_id: str) -> None:
        super().__init__(
            f"{repo_id} has no *.safetensors files with a model's weights, so it can't be served."
            " Look for an MLX version of it."
        )


class TokenRefused(HubError):  # noqa: N818 - named for the fact
    """Raised when the hub does not know the token."""

    def __init__(self) -> None:
        super().__init__("The hub refuses the token: set HF_TOKEN to a valid one, or to none, and start again.")


REFUSALS = (HubBusy, HubDenied, HubNotFound, HubOffline, NothingToServe, TokenRefused)
"""What says nothing of the files that are here already."""


@contextmanager
def hub_errors(repo_id: str | None = None) -> Iterator[None]:
    """Raises HubError for what the hub's client raises about a repository, or about none."""
    import httpx2
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        raise of_status(403, repo_id) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise of_status(404, repo_id) from None
    except HfHubHTTPError as error:
        raise of_status(error.response.status_code, repo_id) from None
    except OfflineModeIsEnabled:
        raise HubOffline("HF_HUB_OFFLINE is set") from None
    except (httpx2.TransportError, LocalEntryNotFoundError) as error:
        raise HubOffline(type(error.__cause__ or error).__name__) from None
    except JSONDecodeError:
        raise HubOffline("what answered is no hub") from None


def of_status(status: int, repo_id: str | None) -> HubError:
    """What a refusal means."""
    if status == 401 or (status == 403 and repo_id is None):
        return TokenRefused()
    if status == 403 and repo_id is not None:
        return HubDenied(repo_id)
    if status == 404 and repo_id is not None:
        return HubNotFound(repo_id)
    if status == 429:
        return HubBusy()
    return HubOffline(f"it answered {status}")
