"""`python espeak.py TEXT VOICE WORDS_PER_MINUTE`: espeak-ng's samples on standard output, as 16-bit numbers; their rate
in hertz on standard error.

A process of its own for each text: what the library remembers of one changes how it says the next.
"""

import ctypes
import sys

import espeakng_loader

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

# From espeak-ng's speak_lib.h.
RETRIEVAL, SPEED, UTF8 = 1, 1, 1


@CALLBACK
def write(values: "ctypes._Pointer[ctypes.c_short]", count: int, events: int | None) -> int:
    """Called by the library with the next samples."""
    if count:
        sys.stdout.buffer.write(ctypes.string_at(values, count * 2))
    return 0


def main(text: str, voice: str, words_per_minute: str) -> None:
    """Say it all."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(RETRIEVAL, 0, espeakng_loader.get_data_path().encode(), 0)
    library.espeak_SetSynthCallback(write)
    if rate <= 0 or library.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(f"espeak-ng can't speak as {voice}")
    library.espeak_SetParameter(SPEED, int(words_per_minute), 0)
    said = text.encode()
    library.espeak_Synth(said, len(said) + 1, 0, 0, 0, UTF8, None, None)
    library.espeak_Synchronize()
    sys.stderr.write(str(rate))


if __name__ == "__main__":
    main(*sys.argv[1:])
