"""What each kind of model is good for. Known without the model, so that a refusal never waits for a place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from mlx_server.app.config.settings import ModelType
from mlx_server.schemas.attachments import media_of
from mlx_server.schemas.internal.embedding import EmbeddingRequest, ScoreRequest
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import GenerationRequest, Media, MediaKind
from mlx_server.schemas.internal.messages import ModelFacts
from mlx_server.schemas.internal.picture import PictureRequest
from mlx_server.schemas.internal.sound import SpeechRequest, TranscriptionRequest
from mlx_server.schemas.internal.work import Work

VISION_ON_TEXT = (
    "Vision requests are not supported with text-only models. Use a VLM model type instead (--model-type vlm)."
)
MEDIA_ON_TEXT = {
    "image": VISION_ON_TEXT,
    "audio": "Audio input is not supported with text-only models.",
    "video": VISION_ON_TEXT,
}
WRITES = ("lm", "vlm", "scripted")
SEES = ("vlm", "embeddings", "scripted")
EMBEDS = ("lm", "vlm", "embeddings", "scripted")
SCORES = ("lm", "vlm", "embeddings", "rerank", "scripted")
HEARS_OR_SPEAKS = ("audio",)
DRAWS = ("image",)


def kinds_of(model_type: ModelType, facts: ModelFacts | None) -> Sequence[MediaKind]:
    """What a model takes beside text; all there is for one that may take it and is not loaded."""
    if model_type not in SEES:
        return ()
    return get_args(MediaKind) if facts is None else facts.media


def check_served(model_type: ModelType, work: Work) -> None:
    """Raises InvalidRequest for work that this kind of model does not do."""
    match work:
        case GenerationRequest() if model_type not in WRITES:
            raise refusal(model_type, "writes no text")
        case EmbeddingRequest() if model_type not in EMBEDS:
            raise refusal(model_type, "makes no embeddings")
        case ScoreRequest() if model_type not in SCORES:
            raise refusal(model_type, "scores nothing")
        case TranscriptionRequest() if model_type not in HEARS_OR_SPEAKS:
            raise refusal(model_type, "transcribes nothing")
        case SpeechRequest() if model_type not in HEARS_OR_SPEAKS:
            raise refusal(model_type, "does not speak")
        case PictureRequest() if model_type not in DRAWS:
            raise refusal(model_type, "draws nothing")
    check_sees(model_type, media_of(work))


def check_sees(model_type: ModelType, media: Sequence[Media]) -> None:
    """Raises InvalidRequest for pictures, sounds and films that this kind of model does not take."""
    if media and model_type not in SEES:
        raise InvalidRequest(MEDIA_ON_TEXT[media[0].kind], media[0].param)


def check_kinds(facts: ModelFacts | None, media: Sequence[Media]) -> None:
    """Raises InvalidRequest for what the loaded model does not take; nobody knows before it is loaded."""
    for one in media:
        if facts is not None and one.kind not in facts.media:
            takes = ", ".join(("text", *facts.media))
            raise InvalidRequest(f"`{one.param}`: this model takes {takes}, and no {one.kind}.", one.param)


def refusal(model_type: ModelType, what: str) -> InvalidRequest:
    """Says what the model can't do, and where it would be served."""
    served = {
        "embeddings": "POST /v1/embeddings, /v1/rerank or /v1/score",
        "rerank": "POST /v1/rerank or /v1/score",
        "audio": "POST /v1/audio/transcriptions, /v1/audio/translations or /v1/audio/speech",
        "image": "POST /v1/images/generations or /v1/images/edits",
    }
    instead = served.get(model_type, "POST /v1/chat/completions")
    return InvalidRequest(f"This model ({model_type}) {what}. It answers {instead}.", "model")
