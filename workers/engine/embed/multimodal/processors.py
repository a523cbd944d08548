"""A model's processor, which knows how pictures become pixels and tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlx_vlm.utils import load_processor

from mlx_server.workers.engine.loading.file_tokenizers import like_its_file, tokenizer_in
from mlx_server.workers.engine.vision.remote_code import remote_code_refused


def read_processor(folder: Path) -> Any:
    """It, and none of the folder's code is run. Raises anything; its architecture's module must be imported before."""
    with remote_code_refused():
        # What there is to note is noted of the tokenizer that texts alone are read with.
        processor, _ = like_its_file(
            folder, lambda: load_processor(folder, add_detokenizer=False, trust_remote_code=False), tokenizer_in
        )
    if getattr(processor, "image_processor", None) is None:
        raise ValueError("its processor can't read pictures")
    return processor
