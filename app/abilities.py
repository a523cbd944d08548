"""What each kind of model is good for. Known without the model, so that a refusal never waits for a place."""

from __future__ import annotations

from mlx_server.app.settings import ModelType
from mlx_server.schemas.embedding import EmbeddingRequest, ScoreRequest, Work
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import ChatPrompt, GenerationRequest, Media

VISION_ON_TEXT = "Vision requests are not supported with text-only models. Use a VLM model type instead."
MEDIA_ON_TEXT = {
    "image": VISION_ON_TEXT,
    "audio": "Audio input is not supported with text-only models.",
    "video": VISION_ON_TEXT,
}
WRITES = ("lm", "vlm", "scripted")
SEES = ("vlm", "embeddings", "scripted")
EMBEDS = ("lm", "vlm", "embeddings", "scripted")
SCORES = ("lm", "vlm", "embeddings", "rerank", "scripted")


def check_served(model_type: ModelType, work: Work) -> None:
    """Raises InvalidRequest for work that this kind of model does not do."""
    match work:
        case GenerationRequest() if model_type not in WRITES:
            raise refusal(model_type, "writes no text")
        case EmbeddingRequest() if model_type not in EMBEDS:
            raise refusal(model_type, "makes no embeddings")
        case ScoreRequest() if model_type not in SCORES:
            raise refusal(model_type, "scores nothing")
    if model_type not in SEES and (media := first_media(work)) is not None:
        raise InvalidRequest(MEDIA_ON_TEXT[media.kind], media.param)


def refusal(model_type: ModelType, what: str) -> InvalidRequest:
    """Says what the model can't do, and where it would be served."""
    served = {
        "embeddings": "POST /v1/embeddings, /v1/rerank or /v1/score",
        "rerank": "POST /v1/rerank or /v1/score",
    }
    instead = served.get(model_type, "POST /v1/chat/completions")
    return InvalidRequest(f"This model ({model_type}) {what}. It answers {instead}.", "model")


def first_media(work: Work) -> Media | None:
    """The first picture, sound or film of a request."""
    return next(iter(all_media(work)), None)


def all_media(work: Work) -> list[Media]:
    """Every picture, sound and film of a request, in order."""
    match work:
        case GenerationRequest():
            chats = [prompt for prompt in work.prompts if isinstance(prompt, ChatPrompt)]
            return [media for chat in chats for message in chat.messages for media in message.media]
        case EmbeddingRequest():
            return [media for given in work.inputs for media in given.media]
        case ScoreRequest():
            return []
