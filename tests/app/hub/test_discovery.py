"""The real client's searches at a hub on this machine."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from support.running.hub import TOKEN, LocalHub, Repo, running

from mlx_server.app.hub.bounded_calls import BoundedCalls
from mlx_server.app.hub.discovery import Hub, Sort
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.errors import HubDenied, HubNotFound, HubOffline, NotAHubId, TokenRefused

FILES = {"config.json": b"{}", "model.safetensors": b"w" * 2000, "pytorch_model.bin": b"p" * 9000}
FOUR_BITS = {"model_type": "llama", "quantization_config": {"bits": 4}}


def repo(id_: str, downloads: int, *tags: str, **more: object) -> Repo:
    return Repo(id_, FILES, ("mlx", *tags), downloads=downloads, **more)  # type: ignore[arg-type]


REPOS = (
    repo("mlx-community/Llama-3.2-3B-Instruct-4bit", 50, "conversational", "base_model:meta/Llama-3.2", likes=1,
         config=FOUR_BITS, parameters={"U32": 400_000_000, "BF16": 100_000_000}),
    repo("mlx-community/Qwen3-0.6B-4bit", 40, "conversational", likes=9, created="2025-05-01T00:00:00.000Z"),
    repo("mlx-community/Qwen2.5-Coder-7B", 30, likes=3, updated="2025-08-01T00:00:00.000Z"),
    repo("mlx-community/Qwen2-VL-2B", 20, pipeline_tag="image-text-to-text"),
    repo("mlx-community/Omni", 10, pipeline_tag="any-to-any"),
    repo("mlx-community/Llama-405B", 5, parameters={"BF16": 405_000_000_000}),
    repo("mlx-community/secret", 1, gated=True),
    Repo("meta/Llama-3.2", FILES, ("transformers",), library_name="transformers", downloads=1000),
)  # fmt: skip


def at(scenario: Callable[[Hub, LocalHub], Awaitable[None]], *repos: Repo) -> None:
    with running(LocalHub(*repos)) as hub:

        async def run() -> None:
            await scenario(Hub(HubAccess(hub.url)), hub)

        asyncio.run(run())


def test_search_finds_models_in_mlx_format_only_in_the_order_asked_for() -> None:
    async def scenario(hub: Hub, local: LocalHub) -> None:
        names = [model.name for model in await hub.search("qwen")]
        assert names == ["Qwen3-0.6B-4bit", "Qwen2.5-Coder-7B", "Qwen2-VL-2B"]
        first: dict[Sort, str] = {
            "downloads": "Llama-3.2-3B-Instruct-4bit",
            "likes": "Qwen3-0.6B-4bit",
            "created": "Qwen3-0.6B-4bit",
            "updated": "Qwen2.5-Coder-7B",
        }
        for sort, expected in first.items():
            assert (await hub.search(sort=sort))[0].name == expected
        assert [model.name for model in await hub.search(tags=["image-text-to-text"])] == ["Qwen2-VL-2B"]

    at(scenario, *REPOS)


def test_search_reads_as_many_pages_as_it_takes() -> None:
    async def scenario(hub: Hub, local: LocalHub) -> None:
        assert len(await hub.popular(5)) == 5
        assert len(await hub.popular(50)) == 7

    at(scenario, *REPOS)


def test_a_models_whole_id_finds_what_was_made_from_it() -> None:
    async def scenario(hub: Hub, local: LocalHub) -> None:
        assert [model.id for model in await hub.search("meta/Llama-3.2")] == [REPOS[0].id]

    at(scenario, *REPOS)


def test_categories_are_filled_by_searches() -> None:
    async def scenario(hub: Hub, local: LocalHub) -> None:
        found = {
            name: [id_.removeprefix("mlx-community/") for id_ in ids] for name, ids in (await hub.categories()).items()
        }
        assert list(found) == [
            "Popular Text Models",
            "Vision Models",
            "Multimodal Models",
            "Code Models",
            "Chat Models",
            "Small Models (< 10GB)",
            "Large Models (> 50GB)",
        ]
        assert found["Popular Text Models"][:2] == ["Llama-3.2-3B-Instruct-4bit", "Qwen3-0.6B-4bit"]
        assert found["Vision Models"] == ["Qwen2-VL-2B"]
        assert found["Multimodal Models"] == ["Omni"]
        assert found["Code Models"] == ["Qwen2.5-Coder-7B"]
        assert found["Chat Models"] == ["Llama-3.2-3B-Instruct-4bit", "Qwen3-0.6B-4bit"]
        assert found["Small Models (< 10GB)"] == ["Llama-3.2-3B-Instruct-4bit"]
        assert found["Large Models (> 50GB)"] == ["Llama-405B"]

    at(scenario, *REPOS)


def test_details_have_exact_sizes_and_name_a_version_for_mlx() -> None:
    async def scenario(hub: Hub, local: LocalHub) -> None:
        own = await hub.details("mlx-community/Qwen3-0.6B-4bit")
        assert own.size_bytes == 2002
        assert (own.mlx_compatible, own.mlx_repo_id) == (True, None)
        other = await hub.details("meta/Llama-3.2")
        assert (other.mlx_compatible, other.has_mlx_version) == (False, True)
        assert other.mlx_repo_id == "mlx-community/Llama-3.2-3B-Instruct-4bit"

    at(scenario, *REPOS)


def test_answers_are_kept_and_errors_are_not() -> None:
    async def scenario(hub: Hub, local: LocalHub) -> None:
        local.status = 500
        with pytest.raises(HubOffline, match="it answered 500"):
            await hub.popular()
        local.status = 0
        local.requests.clear()
        both = await asyncio.gather(hub.popular(3), hub.popular(3))
        assert both[0] == both[1] == await hub.popular(3)
        assert len(local.requests) == 1

    at(scenario, *REPOS)


@pytest.mark.parametrize(
    ("id_", "error"),
    [("mlx-community/none", HubNotFound), ("../api", NotAHubId)],
)
def test_what_may_not_be_seen_is_refused(id_: str, error: type[Exception]) -> None:
    async def scenario(hub: Hub, local: LocalHub) -> None:
        with pytest.raises(error):
            await hub.details(id_)

    at(scenario, *REPOS)


def test_a_gated_model_is_told_of_and_not_given() -> None:
    async def scenario(hub: Hub, local: LocalHub) -> None:
        assert (await hub.details("mlx-community/secret")).gated
        await hub.check_access("mlx-community/Omni")
        with pytest.raises(HubDenied, match="set HF_TOKEN"):
            await hub.check_access("mlx-community/secret")
        await Hub(HubAccess(local.url, TOKEN)).check_access("mlx-community/secret")

    at(scenario, *REPOS)


def test_what_is_no_hub_or_refuses_the_token_is_told_as_that() -> None:
    async def scenario(hub: Hub, local: LocalHub) -> None:
        local.page = "<html>Log in to this network</html>"
        for asked in (hub.popular(), hub.details("mlx-community/Omni")):
            with pytest.raises(HubOffline, match="what answered is no hub"):
                await asked
        local.page, local.status = "", 401
        with pytest.raises(TokenRefused, match="HF_TOKEN"):
            await hub.popular()

    at(scenario, *REPOS)


def test_a_hub_that_is_not_there_or_silent_is_told_soon() -> None:
    async def scenario(hub: Hub, local: LocalHub) -> None:
        gone = Hub(HubAccess("http://127.0.0.1:9"))
        with pytest.raises(HubOffline, match="can't be reached"):
            await gone.popular()
        local.pause_s = 3.0
        hasty = Hub(HubAccess(local.url), calls=BoundedCalls(timeout_s=0.1))
        with pytest.raises(HubOffline, match=r"no answer in 0\.1 s"):
            await hasty.popular()

    at(scenario, *REPOS)
