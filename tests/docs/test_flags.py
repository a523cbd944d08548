"""docs/flags.md: as the options are, and complete."""

import io
import re

import pytest
from docs.flags import PAGE, page
from rich.console import Console

from mlx_server.app.cli.command_help import flags, print_flags
from mlx_server.app.cli.launch_options import MOST_USED


def printed(width: int) -> str:
    """The flags as the help has them in a terminal of so many columns."""
    console = Console(file=io.StringIO(), width=width)
    print_flags(console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_page_is_what_the_options_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "make docs writes it anew"


def test_page_has_every_flag() -> None:
    listed = re.findall(r"^\| `--([a-z-]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == [flag.name.replace("_", "-") for flag in flags()]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_help_has_every_flag_whole(width: int) -> None:
    listed = re.findall(r"^│ (--[a-z-]+) ", printed(width), re.MULTILINE)
    assert listed == [spelling for flag in flags() for spelling in flag.spellings]


def test_help_has_the_most_used_first_and_no_words_of_python() -> None:
    text = printed(80)
    assert [flag.panel for flag in flags()][:21].count(MOST_USED) == 20
    assert text.index(MOST_USED) < text.index("Models") < text.index("Access")
    for word in ("<", "bool", "int range", "…", "x>="):
        assert word not in text, word


def test_flags_tell_what_they_may_be() -> None:
    told = {flag.name: (flag.preset, flag.values) for flag in flags()}
    assert told["port"] == ("`8000`", "0 to 65,535")
    kinds = "`lm` or `vlm` or `embeddings` or `rerank` or `audio` or `image`"
    assert told["model_type"] == ("what its files say", kinds)
    assert told["cpu_dtype"] == ("`auto`", "`auto` or `packed` or `float32` or `native`")
    assert told["auto_load"] == ("on", "on, off")
    assert told["queue_timeout"] == ("`300`", "0.001 to 10,000,000")
    assert told["chat_template"] == ("the model's own", "file")
    assert told["data_dir"] == ("the user's data folder", "folder")
