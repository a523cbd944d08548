from support.answers import call, chosen, finished, text, thought

from mlx_server.app.encoders.collected import Call, collect


def test_collect_sorts_sequences_and_joins_what_each_produced() -> None:
    tokens = [chosen("a"), chosen("b")]
    events = [
        text("B", 1),
        thought("hm", 0),
        text("a", 0, tokens[0]),
        call("", 0, "f"),
        call("{", 0),
        call("", 1, "g"),
        text("b", 0, tokens[1]),
        call("}", 1),
        finished(1, "length"),
        thought("!", 0),
        finished(0, "tool_calls"),
    ]
    first, second = collect(events)
    assert (first.index, first.text, first.reasoning) == (0, "ab", "hm!")
    assert first.calls == [Call("call_f", "f", "{"), Call("call_g", "g", "}")]
    assert first.logprobs == tokens
    assert first.end == finished(0, "tool_calls")
    assert (second.index, second.text, second.calls, second.end) == (1, "B", [], finished(1, "length"))


def test_collect_keeps_a_sequence_that_has_not_ended() -> None:
    [only] = collect([text("a", 3)])
    assert (only.index, only.end) == (3, None)
    assert collect([]) == []


def test_arguments_go_to_the_call_that_they_are_of() -> None:
    [only] = collect([call("", 0, "f"), call("", 1, "g"), call("{}", 0), call("[]", 1), finished()])
    assert [made.arguments for made in only.calls] == ["{}", "[]"]
