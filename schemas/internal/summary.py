"""Summaries that stand for a conversation: what the model is asked for, and how its words are passed on."""

from __future__ import annotations

from msgspec.structs import replace

from mlx_server.schemas.internal.generation import ChatPrompt, GenerationRequest, Limits, Message, ToolUse

ASKED = (
    "Summarise the conversation so far, so that it can be continued from your summary alone. Say what the user wants,"
    " what has been done and found out, with the names, paths, numbers and decisions that matter, and what is still to"
    " be done. Write nothing but the summary."
)
PREFACE = "Summary of the conversation so far:\n\n"


def summarising(generation: GenerationRequest, max_tokens: int, asked: str = ASKED) -> GenerationRequest:
    """A request for a summary of all that was said, of so many tokens at most, in the answer's place."""
    [prompt] = generation.prompts
    assert isinstance(prompt, ChatPrompt)
    messages = (*prompt.messages, Message("user", asked))
    return replace(
        generation,
        prompts=(replace(prompt, messages=messages, continues_last=False, drops_oldest=True),),
        max_tokens=max_tokens,
        limits=Limits(),
        logprobs=None,
        grammar=None,
        tool_use=ToolUse("none"),
    )
