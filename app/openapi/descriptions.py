"""What whoever has not used a POST yet wants to know of it, beside its summary."""

from __future__ import annotations

STREAMS = "With `stream` it comes as server-sent events."
RANKED = "Each document gets a score; the most relevant stand first, only `top_n` of them where that is given."
SCORED = (
    "One text is compared with one or more others, or two lists pair by pair, in the order in which they are given."
)
COUNTED = "Give a `prompt`, or `messages` to have them written as the model's chat template does. Nothing is generated."
WRITTEN = "Token ids as `/tokenize` gives them become text again."
LATER = "Its requests run when no other ones want the model, and go on after a restart."

DESCRIPTIONS: dict[str, str] = {
    "/health": "The same as GET, for those who can only POST. 503: the model was given up.",
    "/v1/chat/completions": "The model answers the messages with text, reasoning or calls of your `tools`, held "
    f"to a JSON schema by `response_format`. {STREAMS}",
    "/v1/completions": f"The model goes on with the prompt as it stands, without a chat template. {STREAMS}",
    "/v1/responses": "The model answers the `input`, and goes on from an earlier answer by `previous_response_id` or a "
    f"`conversation`. `background` answers at once, and is asked for by its id later. {STREAMS}",
    "/v1/responses/compact": "The model sums up a conversation; what comes back is the input of the next response.",
    "/v1/responses/input_tokens": "How long the prompt of a response would be. Nothing is generated.",
    "/v1/responses/{id}/cancel": "Only a response with `background` can be ended; what was written until then is kept.",
    "/v1/conversations": "Items are kept here, and responses that name the conversation add to them.",
    "/v1/conversations/{id}": "All of its metadata is replaced; its items stay.",
    "/v1/conversations/{id}/items": "They are put at the end.",
    "/v1/messages": f"The model answers as Claude does: text, thinking or calls of your `tools`. {STREAMS}",
    "/v1/messages/count_tokens": "How long the prompt of these messages would be. Nothing is generated.",
    "/v1/messages/batches": f"Requests of `/v1/messages`, each with a `custom_id` of its own. {LATER}",
    "/v1/messages/batches/{id}/cancel": "What is done is kept; what has not begun never will. It ends a little later.",
    "/v1/embeddings": "A vector of each text, as numbers or in base64. Vision models take pictures, too.",
    **dict.fromkeys(("/rerank", "/v1/rerank", "/v2/rerank"), RANKED),
    **dict.fromkeys(("/score", "/v1/score"), SCORED),
    "/v1/audio/transcriptions": "Text, with times of its parts or words by `response_format`, or subtitles. " + STREAMS,
    "/v1/audio/translations": "The model has to know several languages.",
    "/v1/audio/speech": "Sound in one of several formats. `GET /v1/audio/voices` lists the voices that there are.",
    "/v1/images/generations": "Pictures in base64, or addresses of them that nobody can guess.",
    "/v1/images/edits": "The picture, and what is to become of it; a mask leaves the rest as it is.",
    "/v1/files": "Its id stands for the file in other requests. One of purpose `batch` has a request in each line.",
    "/v1/batches": "Upload a file of purpose `batch` first (`POST /v1/files`), and give its id. " + LATER,
    "/v1/batches/{id}/cancel": "What is done is kept; what has not begun never will. It ends a little later.",
    "/v1/uploads": "For what is too large for one request: announce it, send its parts, then complete it.",
    "/v1/uploads/{id}/parts": "Parts may come in any order, and side by side.",
    "/v1/uploads/{id}/complete": "Name the parts in the order in which they make the file.",
    "/v1/uploads/{id}/cancel": "Its parts are deleted.",
    **dict.fromkeys(("/tokenize", "/v1/tokenize"), COUNTED),
    **dict.fromkeys(("/detokenize", "/v1/detokenize"), WRITTEN),
    "/v1/cache/explain": "For prompts that are read slowly though they ought to be known. Nothing is generated.",
    "/v1/models/install": "From the hub, until all files are here; `POST /api/models/download` does not wait.",
    "/v1/models/{name}/load": "It may wait for memory, for which models in no use are unloaded.",
    "/v1/models/{name}/unload": "The model is loaded again when it is named the next time.",
    "/v1/models/{name}/pin": "It is loaded if it is not.",
    "/v1/models/{name}/unpin": "It stays loaded until its memory is wanted, or nobody has used it for a while.",
    "/v1/models/{name}/generate": "MLX-GUI's way to ask a model that writes.",
    "/v1/manager/models/{name}/priority": "Higher numbers are loaded sooner.",
    "/v1/requests/{id}/cancel": "By the `X-Request-Id` that it was sent with, or that its answer has.",
    "/v1/system/shutdown": "What runs may finish; new requests are refused.",
    "/v1/system/restart": "Models that the configuration names anew come, those that it leaves out go, others stay.",
    "/api/hardware/performance-mode": "Rows, chunks of prompts and caches of all models; cores at the next load.",
    "/api/models/load": "A model that is here; it may wait for memory.",
    "/api/models/unload": "What runs may finish, unless `force` is given.",
    "/api/models/benchmark/{model_id}": "The model answers some requests, with nothing known of their prompts.",
    "/api/models/download": "Answers at once; `GET /api/models/downloads` says how far it is.",
}
