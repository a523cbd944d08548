"""All that may be queued."""

from __future__ import annotations

from mlx_server.schemas.internal.embedding import EmbeddingRequest, ScoreRequest
from mlx_server.schemas.internal.generation import GenerationRequest
from mlx_server.schemas.internal.picture import PictureRequest
from mlx_server.schemas.internal.sound import SpeechRequest, TranscriptionRequest

Work = GenerationRequest | EmbeddingRequest | ScoreRequest | TranscriptionRequest | SpeechRequest | PictureRequest
"""What may be queued."""
