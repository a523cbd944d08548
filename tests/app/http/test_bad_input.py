"""Bad input of every kind: a 4xx that names the field, in the one error shape, and a server that is none the worse."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.inputs.bad_bodies import BODIES, ELSEWHERE, MALFORMED_MESSAGES
from support.inputs.bad_fields import CHAT_FIELDS, PROMPTS, shared
from support.inputs.bad_for_embeddings import EMBEDDING_INPUTS, NOT_FOR_SCRIPTED, RERANK_AND_SCORE
from support.inputs.bad_for_models import BAD_TEMPLATES, NOT_FOR_SMOLLM2
from support.inputs.bad_input import Bad
from support.inputs.bad_media import MALFORMED_MEDIA, NO_FILES, UNSEEN
from support.inputs.refusals import check_shape
from support.running.servers import SCRIPTED, Server, serving
from support.running.streams import stream_chat, text_of

TEXTS = [*BODIES, *MALFORMED_MESSAGES, *MALFORMED_MEDIA, *shared(), *CHAT_FIELDS, *PROMPTS, *ELSEWHERE]
FOR_ANY_MODEL = [*TEXTS, *EMBEDDING_INPUTS, *RERANK_AND_SCORE]
"""What the front end refuses by itself."""

FOR_SCRIPTED = [*FOR_ANY_MODEL, *NO_FILES, *NOT_FOR_SCRIPTED]
"""What it refuses for a model that sees."""

FOR_SMOLLM2 = [*NOT_FOR_SMOLLM2, *BAD_TEMPLATES, *UNSEEN]
"""What it refuses for a model that only reads, and what the worker refuses."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED) as server:
        yield server


def _check(server: Server, bad: Bad, client: httpx.Client | None = None) -> None:
    response = (client or server.http).post(server.root + bad.path, content=bad.content)
    error = check_shape(response, bad.status, bad.param)
    assert error["type"] == "invalid_request_error"
    assert bad.message in error["message"]


def _check_all(server: Server, table: list[Bad]) -> None:
    """The whole table at once, in four hands; the server is none the worse."""
    workers = server.worker_pids()
    with ThreadPoolExecutor(4) as pool, httpx.Client(timeout=60) as client:

        def differs(bad: Bad) -> str | None:
            try:
                _check(server, bad, client)
            except AssertionError as error:
                return f"{bad}: {error}"
            return None

        assert [told for told in pool.map(differs, table) if told] == []
    assert server.worker_pids() == workers
    assert "Traceback" not in server.output()


def test_the_table_is_large_and_says_nothing_twice() -> None:
    for table in (FOR_SCRIPTED, [*FOR_ANY_MODEL, *FOR_SMOLLM2]):
        assert len({(bad.path, bad.content) for bad in table}) == len(table) > 300


@pytest.mark.parametrize("bad", FOR_SCRIPTED, ids=str)
def test_bad_input_is_refused_by_name(server: Server, bad: Bad) -> None:
    _check(server, bad)


def test_a_server_is_unharmed_by_the_whole_table(server: Server) -> None:
    _check_all(server, FOR_SCRIPTED)
    server.wait_stats(active_requests=0, rows_used=0)
    assert server.chat("still there").status_code == 200


@pytest.mark.model
def test_what_only_the_model_knows_is_refused_by_name_and_no_neighbour_notices_the_table(
    smollm2_server: Server,
) -> None:
    def write() -> str:
        asked = {"temperature": 0, "max_tokens": 100}
        return text_of(stream_chat(smollm2_server, "Tell me a long story about the sea.", **asked))

    undisturbed = write()
    with ThreadPoolExecutor(1) as pool:
        story = pool.submit(write)
        smollm2_server.wait_stats(running_requests=1)
        _check_all(smollm2_server, [*FOR_SMOLLM2, *FOR_ANY_MODEL])
        assert story.result() == undisturbed
    assert len(undisturbed) > 250
    smollm2_server.wait_stats(active_requests=0, rows_used=0)
