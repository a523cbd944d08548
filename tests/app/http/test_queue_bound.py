"""The bound of the queue is exact, and its Retry-After is a promise that holds."""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body

FULL = "Too many requests. Service is at capacity."


def all_at_once(count: int, send: Callable[[], httpx.Response]) -> list[httpx.Response]:
    ready = threading.Barrier(count)

    def wait_and_send() -> httpx.Response:
        ready.wait()
        return send()

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(wait_and_send) for _ in range(count)]]


def test_fifty_at_once_are_three_served_and_the_rest_refused(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 2)
    streamed = itertools.cycle([False, True])
    answers = all_at_once(50, lambda: server.chat({"tokens": 1, "first_token_s": 1.2}, stream=next(streamed)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 47
    for answer in refused:
        assert answer.json()["error"]["message"] == answer.json()["detail"] == FULL
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["x-request-id"]
    stats = server.stats()
    assert (stats["served"], stats["refused"], stats["active_requests"]) == (3, 47, 0)


def test_no_queue_means_that_only_running_requests_are_taken(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 2, "--queue-size", 0)
    body = chat_body({"first_token_s": 60})
    with RawClient(server, body), RawClient(server, body) as second:
        server.wait_stats(running_requests=2)
        assert server.chat("hi").status_code == 429
        many = {"stop": ["x"] * 99}
        assert server.chat("hi", **many).status_code == 429, "it is not looked at closely"
        second.leave()
        server.wait_stats(running_requests=1, timeout_s=2)
        assert server.chat("hi", **many).status_code == 400
        assert server.chat("hi").status_code == 200


def test_those_who_obey_retry_after_are_served_at_their_next_try(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 2, "--queue-size", 4)
    script = {"tokens": 4, "interval_s": 0.05}
    for _ in range(2):
        assert server.chat(script).status_code == 200
    refused = [answer for answer in all_at_once(30, lambda: server.chat(script)) if answer.status_code == 429]
    assert len(refused) >= 10

    def come_back(first: httpx.Response) -> int:
        time.sleep(int(first.headers["retry-after"]))
        return server.chat(script).status_code

    with ThreadPoolExecutor(len(refused)) as pool:
        statuses = list(pool.map(come_back, refused))
    assert statuses.count(200) >= 0.9 * len(refused), statuses


def test_waiting_requests_are_served_in_order(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1)
    served: list[int] = []

    def ask(number: int) -> None:
        assert server.chat({"tokens": 2, "interval_s": 0.1}).status_code == 200
        served.append(number)

    with RawClient(server, chat_body({"first_token_s": 60})) as first, ThreadPoolExecutor(5) as pool:
        server.wait_stats(running_requests=1)
        for number in range(5):
            pool.submit(ask, number)
            server.wait_stats(waiting_requests=number + 1)
        first.leave()
    assert served == list(range(5))


def test_who_comes_back_in_time_finds_a_place_that_newcomers_do_not_get(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 1)
    for _ in range(2):
        server.chat("hi").raise_for_status()
    held = chat_body({"first_token_s": 60})
    with RawClient(server, held) as running, RawClient(server, held) as waiting:
        server.wait_stats(active_requests=2)
        refused = server.chat("refused")
        time.sleep(int(refused.headers["retry-after"]))
        waiting.leave()
        server.wait_stats(active_requests=1)
        assert server.chat("newcomer").status_code == 429
        with ThreadPoolExecutor(1) as pool:
            back = pool.submit(server.chat, "refused")
            server.wait_stats(active_requests=2)
            running.leave()
            assert back.result().status_code == 200
