"""What a folder made with sentence-transformers says beside its weights: how vectors come of hidden states.

The files are those that https://sbert.net/docs/package_reference/sentence_transformer/models.html describes:
`modules.json`, `1_Pooling/config.json`, `2_Dense/`, `sentence_bert_config.json`, `config_sentence_transformers.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mlx_server.workers.engine.embed.inputs.input_prompts import InputPrompts
from mlx_server.workers.engine.embed.late_interaction import MakesVectorPerToken
from mlx_server.workers.engine.embed.pooling import MODES
from mlx_server.workers.engine.loading.json_file import read_json
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.encoder_types import ENCODERS

OLD_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""How older files say which modes are on; several are concatenated in this order."""


@dataclass(frozen=True, slots=True)
class Dense:
    """A layer that vectors go through, with its files."""

    folder: Path


@dataclass(frozen=True, slots=True)
class Normalize:
    """Vectors are brought to length 1."""


@dataclass(frozen=True, slots=True)
class SentenceFiles:
    """`modes`: how tokens are pooled, None where nothing says so. `missing`: the file that would, where `modules.json`
    names its folder. `head`: what happens to the pooled vectors."""

    transformer: Path
    modes: tuple[str, ...] | None
    missing: Path | None
    head: tuple[Dense | Normalize, ...]
    prompts: InputPrompts
    lower_case: bool


def read_sentence_files(folder: Path) -> SentenceFiles:
    """What the folder says; without `modules.json` vectors have length 1. Raises ModelLoadError."""
    head: list[Dense | Normalize] = [Dense(path) for path in sorted(folder.glob("*_Dense")) if path.is_dir()]
    transformer, pooling, head = folder, folder / "1_Pooling", [*head, Normalize()]
    named = (folder / "modules.json").is_file()
    if named:
        transformer, pooling, head = read_modules(folder, read_json(folder / "modules.json"))
    settings, told = read_transformer_settings(transformer), pooling / "config.json"
    there = told.is_file()
    return SentenceFiles(
        transformer,
        pooling_modes(read_json(told)) if there else None,
        told if named and not there else None,
        tuple(head),
        read_prompts(folder / "config_sentence_transformers.json"),
        settings.get("do_lower_case") is True,
    )


def read_modules(folder: Path, modules: Any) -> tuple[Path, Path, list[Any]]:
    """The folders of the transformer and of the pooling, and what follows. Raises ModelLoadError."""
    try:
        steps = [(str(module["type"]).rpartition(".")[2], inside(folder, module["path"])) for module in modules]
    except (TypeError, KeyError):
        raise ModelLoadError(f"{folder / 'modules.json'} is not a list of modules") from None
    kinds = [kind for kind, _ in steps if kind != "Dropout"]
    if kinds[:1] == ["Transformer"] and "Pooling" not in kinds:
        raise MakesVectorPerToken(folder)
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= {"Dense", "Normalize"}:
        raise ModelLoadError(
            f"{folder} can't be served: its modules are {', '.join(kinds)}; a Transformer, a Pooling, and then Dense"
            " and Normalize are served"
        )
    head = [Dense(path) if kind == "Dense" else Normalize() for kind, path in steps if kind in ("Dense", "Normalize")]
    return steps[0][1], dict(steps)["Pooling"], head


def inside(folder: Path, path: str) -> Path:
    """A module's folder, which is not outside the model's. Raises ModelLoadError."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise ModelLoadError(f"{folder / 'modules.json'} names {path!r}, which is outside the model's folder")
    return folder / path


def pooling_modes(config: dict[str, Any]) -> tuple[str, ...]:
    """The modes that are on. Raises ModelLoadError for those that are not served."""
    if config.get("include_prompt") is False:
        raise ModelLoadError("the model's pooling leaves its prompts out (include_prompt), which is not served")
    given = config.get("pooling_mode")
    if given is None:
        given = [mode for key, mode in OLD_KEYS.items() if config.get(key)] or ["mean"]
    modes = (given,) if isinstance(given, str) else tuple(given)
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise ModelLoadError(f"the model's pooling mode {unknown[0]!r} is not served; {', '.join(MODES)} are")
    return modes


def pooled(files: SentenceFiles, kind: str, usual: str) -> tuple[tuple[str, ...], list[str]]:
    """The modes of a model, and notes; where no file says them, the one that is usual for its type. Types of which
    models pool one way or another have none: it is assumed where no file is said to exist. Raises ModelLoadError."""
    if files.modes is not None:
        return files.modes, []
    if kind not in ENCODERS:
        return (usual,), []
    if files.missing is not None:
        raise ModelLoadError(
            f"{files.missing} is missing, without which nobody knows how the model pools; conversions leave it out:"
            " copy it there from the repository that the model was converted from"
        )
    return (usual,), [
        f"no file says how the model pools (1_Pooling/config.json): {usual} is assumed, which makes bad vectors of a"
        " model that was trained with another pooling, such as cls"
    ]


def read_transformer_settings(folder: Path) -> dict[str, Any]:
    """The one file of the transformer's settings, whose name tells the architecture."""
    return next((read_json(path) for path in sorted(folder.glob("sentence_*_config.json"))), {})


def read_prompts(path: Path) -> InputPrompts:
    """The model's prompts. Raises ModelLoadError."""
    if not path.is_file():
        return InputPrompts()
    config = read_json(path)
    named = {name: text for name, text in (config.get("prompts") or {}).items() if isinstance(text, str)}
    default = config.get("default_prompt_name")
    if default is not None and default not in named:
        raise ModelLoadError(f"{path}: its default prompt {default!r} is not among its prompts")
    return InputPrompts(named, default)
