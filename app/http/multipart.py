"""Forms with files (RFC 7578): files go to disk as they come, and memory holds a chunk of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.decoders import Base64Decoder, QuotedPrintableDecoder
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header
from starlette.requests import Request

from mlx_server.app.http.body import declares_more, too_large
from mlx_server.schemas.internal.errors import InvalidRequest

if TYPE_CHECKING:
    from python_multipart.multipart import FileConfig, MultipartCallbacks

MULTIPART = "multipart/form-data"
MOST_PARTS = 100
MOST_FIELD_BYTES = 1 << 17
Decoder = type[Base64Decoder] | type[QuotedPrintableDecoder]
DECODERS: dict[bytes, Decoder] = {b"base64": Base64Decoder, b"quoted-printable": QuotedPrintableDecoder}
"""By Content-Transfer-Encoding. Whatever else it says, the bytes are as they come."""


class Text(Field):
    """A text of a form, bounded while it comes."""

    def __init__(self, name: bytes) -> None:
        super().__init__(name)
        self._bytes = 0

    def on_data(self, data: bytes) -> int:
        """Hold some more of it. Raises InvalidRequest."""
        self._bytes += len(data)
        if self._bytes > MOST_FIELD_BYTES:
            name = name_of(self.field_name)
            raise InvalidRequest(f"`{name}`: at most {MOST_FIELD_BYTES} bytes are allowed.", name)
        return super().on_data(data)


class Upload:
    """A file of a form, on disk under a name of ours until its form is closed."""

    def __init__(self, file: File) -> None:
        self._file = file
        self.size = file.size

    @property
    def name(self) -> str:
        """What its client calls it."""
        return (self._file.file_name or b"").decode("utf-8", "replace")

    @property
    def path(self) -> str:
        """Where it lies."""
        name = self._file.actual_file_name
        assert name is not None
        return name.decode()

    def close(self) -> None:
        """Read and write it no more. Idempotent."""
        self._file.close()


@dataclass
class Form:
    """`fields` are texts by their names, in the order in which they came; `files` lie in a `folder` of their own.
    `close` it when they are done with."""

    folder: Path
    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[Upload]] = field(default_factory=dict)

    def file(self, name: str) -> Upload:
        """The only file of this name. Raises InvalidRequest."""
        if len(found := self.files.get(name, [])) != 1:
            raise InvalidRequest(f"`{name}` is missing." if not found else f"`{name}`: only one is allowed.", name)
        return found[0]

    def close(self) -> None:
        """Delete its files. Idempotent."""
        for upload in (one for several in self.files.values() for one in several):
            upload.close()
        # With one that had only begun to come.
        shutil.rmtree(self.folder, ignore_errors=True)


async def read_form(request: Request, folder: Path, limit_bytes: int) -> Form:
    """A request's form, with its files below `folder`; the caller closes it.

    Raises InvalidRequest for what is no form, HTTPException 413 as soon as it is known to be larger than `limit_bytes`,
    or ClientDisconnect.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind.decode("latin-1") != MULTIPART or not (boundary := options.get(b"boundary")):
        raise InvalidRequest(f"The body has to be a form with files: Content-Type: {MULTIPART}; boundary=…")
    if declares_more(request, limit_bytes):
        raise too_large(limit_bytes)
    form = Form(Path(mkdtemp(dir=folder)))
    parts = Parts(form)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        received = 0
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit_bytes:
                raise too_large(limit_bytes)
            parser.write(chunk)
        if not parts.ended:
            raise InvalidRequest("The form ends before its last boundary.")
    except FormParserError as error:
        form.close()
        raise InvalidRequest(f"The form can't be read: {error}") from None
    except BaseException:
        form.close()
        raise
    finally:
        parts.close()
    return form


class Parts:
    """What a form's parser tells of its parts, one after the other, taken into the form.

    python_multipart's own FormParser holds texts of any length until they end. Raises InvalidRequest, FormParserError.
    """

    def __init__(self, form: Form) -> None:
        self.ended = False
        self._form = form
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._part: Text | File | None = None
        self._writer: Text | File | Base64Decoder | QuotedPrintableDecoder | None = None

    def callbacks(self) -> MultipartCallbacks:
        """For the parser."""
        return {
            "on_part_begin": self._headers.clear,
            "on_header_field": self._name_header,
            "on_header_value": self._fill_header,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin,
            "on_part_data": self._write,
            "on_part_end": self._end,
            "on_end": self._end_form,
        }

    def close(self) -> None:
        """Write no more to the file that was coming. Idempotent."""
        if isinstance(self._part, File):
            self._part.close()

    def _name_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _fill_header(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.lower()] = self._value.strip(b" \t")
        self._header, self._value = b"", b""

    def _begin(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if (name := options.get(b"name")) is None:
            raise FormParserError("a part has no name in its Content-Disposition")
        if (file_name := options.get(b"filename")) is None:
            self._part = Text(name)
        else:
            folder = str(self._form.folder)
            config: FileConfig = {"UPLOAD_DIR": folder, "UPLOAD_DELETE_TMP": False, "MAX_MEMORY_FILE_SIZE": 0}
            self._part = File(file_name, name, config=config)
        encoding = self._headers.get(b"content-transfer-encoding", b"").lower()
        decoder = DECODERS.get(encoding)
        self._writer = self._part if decoder is None else decoder(self._part)

    def _write(self, data: bytes, start: int, end: int) -> None:
        assert self._writer is not None
        self._writer.write(data[start:end])

    def _end(self) -> None:
        assert self._writer is not None
        self._writer.finalize()
        part, self._part, self._writer = self._part, None, None
        if isinstance(part, Text):
            add_field(self._form, part)
        elif part is not None:
            add_file(self._form, part)

    def _end_form(self) -> None:
        self.ended = True


def add_field(form: Form, given: Field) -> None:
    """Take in a text. Raises InvalidRequest."""
    name, value = name_of(given.field_name), given.value or b""
    check_count(form)
    try:
        form.fields.setdefault(name, []).append(value.decode())
    except UnicodeDecodeError:
        raise InvalidRequest(f"`{name}` has to be text in UTF-8.", name) from None


def add_file(form: Form, given: File) -> None:
    """Take in a file, unless a browser says so that none was chosen. Raises InvalidRequest."""
    if not given.file_name and not given.size:
        given.close()
        return
    given.flush_to_disk() if given.in_memory else given.file_object.flush()
    form.files.setdefault(name_of(given.field_name), []).append(Upload(given))
    check_count(form)


def check_count(form: Form) -> None:
    """Raises InvalidRequest for too many parts."""
    if sum(map(len, form.fields.values())) + sum(map(len, form.files.values())) > MOST_PARTS:
        raise InvalidRequest(f"A form may have at most {MOST_PARTS} parts.")


def name_of(given: bytes | None) -> str:
    """A part's name, without the brackets that some clients write behind those of lists."""
    return (given or b"").decode("utf-8", "replace")[:256].removesuffix("[]")
