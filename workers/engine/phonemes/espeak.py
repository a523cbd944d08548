"""espeak-ng's grapheme-to-phoneme step, from the library that `espeakng-loader` brings."""

from __future__ import annotations

import ctypes
from functools import cache

import espeakng_loader

TIE = "^"
"""Stands between letters that are one sound."""

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS, _UTF8, _IPA, _TIED, _SEPARATOR = 2, 1, 0x02, 0x80, 8


class EspeakError(Exception):
    """Raised when the library can't be started, or does not know a language."""


def phonemes(text: str, language: str) -> str:
    """A text as the international phonetic alphabet writes it, with marks of stress and ties; its punctuation is lost.

    The library has one state for the whole process: call it on one thread. Raises `EspeakError`.
    """
    library = _library()
    if library.espeak_SetVoiceByName(language.encode()) != 0:
        raise EspeakError(f"espeak-ng has no language {language}")
    rest = ctypes.c_char_p(text.replace("\0", " ").encode())  # C's texts end at a zero
    mode = _IPA | _TIED | ord(TIE) << _SEPARATOR
    clauses = []
    while rest.value:
        clauses.append(library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, mode).decode())
    return " ".join(clause.strip() for clause in clauses if clause.strip())


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    if library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0) <= 0:
        raise EspeakError("espeak-ng can't be started")
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    return library
