"""Languages as clients name them (ISO 639), and as mlx-audio's families (0.6) do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlx_audio.stt.models.whisper.tokenizer import LANGUAGES


def languages_of(model: Any) -> dict[str, str]:
    """A model's own words for the languages that it understands, by their codes; none where it does not say.

    Qwen3-ASR and what is made of it are told names in English, and `support_languages` may be empty for any; Canary and
    Cohere have codes in their configuration, SenseVoice has them in its class.
    """
    config = getattr(model, "config", None)
    names = getattr(config, "support_languages", None)
    if names is not None:
        own = {code: name.title() for code, name in LANGUAGES.items()}
        return {code: name for code, name in own.items() if name in names or not names}
    codes: Iterable[str] = getattr(config, "supported_languages", None) or getattr(model, "lid_dict", None) or ()
    return {code: code for code in codes if code in LANGUAGES}


def name_of(language: Any) -> str:
    """The English name of what a family says is spoken: a code, a name, or one of these for each of its pieces. Empty
    where it does not know."""
    said = (language[0] if language else "") if isinstance(language, list) else language
    written = str(said or "").lower()
    known = LANGUAGES.get(written, written)
    return known if known in LANGUAGES.values() else ""
