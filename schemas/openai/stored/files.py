"""`/v1/files` and `/v1/uploads`: what clients send and get. Times are seconds since the epoch."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.parsing.forms import FormDecoder

GivenPurpose = Literal["batch", "user_data", "vision"]
Purpose = Literal["batch", "user_data", "vision", "batch_output"]
PURPOSES = get_args(Purpose)
LEAST_S, MOST_S = 3600, 30 * 86_400
"""What `expires_after` may say."""

BATCH_S = MOST_S
"""How long a file of requests is kept where its client says nothing; others are kept until they are deleted."""

UploadStatus = Literal["pending", "completed", "cancelled", "expired"]
MOST_NAME = 255
Lifetime = Annotated[int, msgspec.Meta(ge=LEAST_S, le=MOST_S)]
FileName = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_NAME)]


class FileForm(msgspec.Struct, frozen=True):
    """The texts of the form that a file comes in."""

    purpose: GivenPurpose
    anchor: Literal["created_at"] | None = msgspec.field(default=None, name="expires_after[anchor]")
    seconds: Lifetime | None = msgspec.field(default=None, name="expires_after[seconds]")

    def lifetime_s(self) -> int | None:
        """How long it is kept; None: until it is deleted. Raises InvalidRequest."""
        if (self.anchor is None) != (self.seconds is None):
            missing = "expires_after[seconds]" if self.seconds is None else "expires_after[anchor]"
            raise InvalidRequest(f"`{missing}` is missing.", missing)
        return lifetime_of(self.purpose, self.seconds)


class PartForm(msgspec.Struct, frozen=True):
    """A part of an upload comes without texts."""


class ExpiresAfter(msgspec.Struct, frozen=True):
    """How long something is kept."""

    anchor: Literal["created_at"]
    seconds: Lifetime


class CreateUpload(msgspec.Struct, frozen=True):
    """A file that will come in parts, `bytes` large in all. Its type changes nothing: files say what they are."""

    bytes: Annotated[int, msgspec.Meta(ge=1)]
    filename: FileName
    mime_type: str
    purpose: GivenPurpose
    expires_after: ExpiresAfter | None = None

    def lifetime_s(self) -> int | None:
        """How long the file is kept; None: until it is deleted."""
        return lifetime_of(self.purpose, None if self.expires_after is None else self.expires_after.seconds)


class CompleteUpload(msgspec.Struct, frozen=True):
    """The parts in their order, and the MD5 of all of them in hexadecimal if it is to be checked."""

    part_ids: Annotated[list[str], msgspec.Meta(min_length=1)]
    md5: str | None = None


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is kept."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: str | None = None


class FileList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(msgspec.Struct, frozen=True):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A file that comes in parts, and the file once it is whole."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: UploadStatus
    file: FileObject | None = None


class UploadPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part that is here."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


def lifetime_of(purpose: str, seconds: int | None) -> int | None:
    """How long a file is kept, in seconds; None: until it is deleted."""
    return BATCH_S if seconds is None and purpose == "batch" else seconds


file_form = FormDecoder(FileForm, files=("file",))
part_form = FormDecoder(PartForm, files=("data",))
upload_decoder = msgspec.json.Decoder(CreateUpload)
complete_decoder = msgspec.json.Decoder(CompleteUpload)
