"""A Whisper that was converted for CTranslate2 (as faster-whisper reads it), as the folder that it was made from."""
