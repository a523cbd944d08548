"""What the routes of files, uploads and batches take and answer."""

from __future__ import annotations

from mlx_server.app.openapi.route_doc import Doc
from mlx_server.schemas.anthropic import batches as messages
from mlx_server.schemas.internal.errors import AnthropicErrorBody
from mlx_server.schemas.openai.stored import batches, files

FILE = {"id": "The file's id."}
BATCH = {"id": "The batch's id."}
UPLOAD = {"id": "The upload's id."}
KEEPS = (400, 404, 413, 500)
PAGE = {
    "limit": "At most so many, 1 to 10000 (10000).",
    "order": "`desc`, the newest first, or `asc`.",
    "after": "The id of the file before the first one.",
    "purpose": "Only files of this purpose.",
}
BATCHES = {
    "limit": "At most so many, 1 to 100 (20), the newest first.",
    "after": "The id of the batch before the first one.",
}
MESSAGE_BATCHES = {
    "limit": "At most so many, 1 to 1000 (20), the newest first.",
    "after_id": "The id of the batch before the first one.",
    "before_id": "The id of the batch after the last one.",
}

OFFLINE: dict[str, Doc] = {
    "/v1/files": Doc("Files that are kept", files.FileList, errors=(400, 500), query=PAGE),
    "POST /v1/files": Doc(
        "Keep a file",
        files.FileObject,
        form=files.FileForm,
        files={"file": "The file, of any type; one of purpose `batch` has a request in each line."},
        errors=(400, 413, 500),
    ),
    "/v1/files/{id}": Doc("A file", files.FileObject, errors=(404, 500), path=FILE),
    "DELETE /v1/files/{id}": Doc("Forget a file", files.FileDeleted, errors=(404, 500), path=FILE),
    "/v1/files/{id}/content": Doc("What a file holds", media="application/octet-stream", errors=(404, 500), path=FILE),
    "/v1/batches": Doc("Batches", batches.BatchList, errors=(400, 500), query=BATCHES),
    "POST /v1/batches": Doc(
        "Answer the requests of a file with the rows that nobody else wants",
        batches.Batch,
        batches.CreateBatch,
        errors=KEEPS,
    ),
    "/v1/batches/{id}": Doc("A batch", batches.Batch, errors=(404, 500), path=BATCH),
    "/v1/batches/{id}/cancel": Doc("End a batch", batches.Batch, errors=(404, 409, 500), path=BATCH),
    "/v1/messages/batches": Doc(
        "Batches of messages",
        messages.MessageBatchList,
        errors=(400, 500),
        error=AnthropicErrorBody,
        query=MESSAGE_BATCHES,
    ),
    "POST /v1/messages/batches": Doc(
        "Answer requests with the rows that nobody else wants",
        messages.MessageBatch,
        messages.CreateMessageBatch,
        errors=(400, 413, 500),
        error=AnthropicErrorBody,
    ),
    "/v1/messages/batches/{id}": Doc(
        "A batch of messages", messages.MessageBatch, errors=(404, 500), error=AnthropicErrorBody, path=BATCH
    ),
    "DELETE /v1/messages/batches/{id}": Doc(
        "Forget a batch of messages that has ended",
        messages.MessageBatchDeleted,
        errors=(400, 404, 500),
        error=AnthropicErrorBody,
        path=BATCH,
    ),
    "/v1/messages/batches/{id}/cancel": Doc(
        "End a batch of messages", messages.MessageBatch, errors=(400, 404, 500), error=AnthropicErrorBody, path=BATCH
    ),
    "/v1/messages/batches/{id}/results": Doc(
        "What became of each request",
        media="application/x-jsonl",
        errors=(404, 500),
        error=AnthropicErrorBody,
        path=BATCH,
    ),
    "/v1/uploads": Doc("Announce a file that comes in parts", files.Upload, files.CreateUpload, errors=(400, 413, 500)),
    "/v1/uploads/{id}/parts": Doc(
        "Send a part",
        files.UploadPart,
        form=files.PartForm,
        files={"data": "The part."},
        errors=KEEPS,
        path=UPLOAD,
    ),
    "/v1/uploads/{id}/complete": Doc(
        "Make a file of the parts", files.Upload, files.CompleteUpload, errors=KEEPS, path=UPLOAD
    ),
    "/v1/uploads/{id}/cancel": Doc("Take an upload back", files.Upload, errors=(400, 404, 500), path=UPLOAD),
}
