"""What torch and transformers compute of a real model: `python reference_checkpoints.py ASKED.json FOUND.npz`.

In the reference's environment. ASKED has `model` (a folder, or a .gguf file that transformers reads itself), `text`,
and for models of language `tokens`, `every` and `saved`, a folder where transformers is to save the model; for models
of vectors `texts`.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM, AutoTokenizer

ROWS = 100
"""Positions of which probabilities are computed together: in float64, they need much memory."""


@torch.no_grad()
def language(asked: dict[str, Any]) -> dict[str, np.ndarray]:
    """The ids [tokens] that the text begins with, the logits [tokens / every, vocabulary], and the logarithms of the
    probabilities [tokens - 1] of each id after those before it. Models that scale their embeddings are computed once
    more, as `bfloat16` weights make them: the scale is rounded."""
    path = Path(asked["model"])
    where: dict[str, Any] = {"pretrained_model_name_or_path": path}
    if path.suffix == ".gguf":
        where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
    ids = tokenizer.encode(asked["text"], add_special_tokens=False)[: asked["tokens"]]
    savable(model).save_pretrained(asked["saved"])
    tokenizer.save_pretrained(asked["saved"])
    found = {"ids": np.array(ids), **said(model, ids, asked["every"])}
    embedding = model.get_input_embeddings()
    if hasattr(embedding, "embed_scale"):
        embedding.embed_scale = embedding.embed_scale.to(torch.bfloat16).float()
        found |= {f"rounded_{name}": array for name, array in said(model, ids, asked["every"]).items()}
    return found


def savable(model: Any) -> Any:
    """The same model where it does not come of a quantised file, which transformers does not save."""
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    made.load_state_dict(model.state_dict())
    return made


def said(model: Any, ids: list[int], every: int) -> dict[str, np.ndarray]:
    """Logits at some places, and logarithms of probabilities at all but the first."""
    logits = model(torch.tensor([ids]), use_cache=False).logits[0].float()
    blocks = zip(logits[:-1].split(ROWS), torch.tensor(ids[1:]).split(ROWS), strict=True)
    logprobs = [torch.log_softmax(rows.double(), dim=-1)[torch.arange(len(rows)), chosen] for rows, chosen in blocks]
    return {"logits": logits[::every].numpy(), "logprobs": torch.cat(logprobs).numpy()}


def vectors(asked: dict[str, Any]) -> dict[str, np.ndarray]:
    """The vectors [texts, width]."""
    return {"vectors": SentenceTransformer(asked["model"], device="cpu").encode(asked["texts"])}


if __name__ == "__main__":
    torch.set_num_threads(2)
    wanted = json.loads(Path(sys.argv[1]).read_text())
    np.savez(sys.argv[2], **(vectors(wanted) if "texts" in wanted else language(wanted)))
