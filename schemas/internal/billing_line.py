"""The line that Claude Code puts at the head of its system prompt for Anthropic's accounts.

It is another one in every session or request, so that nothing behind it would ever be known, and proxies pass it on to
other APIs as well. It says nothing to a model.
"""

from __future__ import annotations

import re

BILLING_LINE = re.compile(r"\s*x-anthropic-billing-header:[^\n]*(\n\s*|\Z)")


def without_billing_line(text: str) -> str:
    """A text of the system without such a line at its head."""
    found = BILLING_LINE.match(text)
    return text[found.end() :] if found else text


def is_billing_line(text: str) -> bool:
    """Whether a text of the system is nothing else."""
    return bool(text) and not without_billing_line(text)
