"""What a repository's model is for, before its weights are downloaded."""

from __future__ import annotations

from pathlib import Path

from mlx_server.app.catalog.classify import classify
from mlx_server.app.catalog.kinds import Kind
from mlx_server.app.catalog.model_folder import POOLING
from mlx_server.workers.folders.model_files import NotAModel, read_json
from mlx_server.workers.hub.access import HubAccess, check_hub_id
from mlx_server.workers.hub.errors import NothingToServe, hub_errors


def kind_on_hub(repo_id: str, access: HubAccess) -> Kind:
    """As its configuration says, which goes to the hub's cache. Raises HubError, in bounded time."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    check_hub_id(repo_id)
    with hub_errors(repo_id):
        info = access.api().model_info(repo_id)
        files = {file.rfilename for file in info.siblings or ()}
        if "model_index.json" in files:
            return Kind.IMAGE
        if "config.json" not in files:
            raise NothingToServe(repo_id)
        path = hf_hub_download(
            repo_id,
            "config.json",
            revision=info.sha,
            cache_dir=access.cache_dir,
            endpoint=access.endpoint,
            token=access.token,
        )
    try:
        config = read_json(Path(path).parent, "config.json")
    except NotAModel:
        raise NothingToServe(repo_id) from None
    return classify(config, pooled=bool(files.intersection(POOLING)))
