"""docs/flags.md: as the options are, and complete."""

import os
import re
import subprocess
import sys

from docs.flags import PAGE, flags, page
from support.running.servers import ROOT


def test_page_is_what_the_options_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "make docs writes it anew"


def test_page_has_every_flag_of_the_help() -> None:
    env = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "mlx_server.app", "launch", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=60).stdout
    listed = re.findall(r"^\| `(--[a-z-]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == set(re.findall(r"^\W*(--[a-z][a-z-]+)", told, re.MULTILINE)) - {"--help"}


def test_flags_tell_what_they_may_be() -> None:
    told = {flag.name: (flag.preset, flag.values) for flag in flags()}
    assert told["port"] == ("`8000`", "0 to 65,535")
    kinds = "`lm` or `vlm` or `embeddings` or `rerank` or `audio` or `image`"
    assert told["model_type"] == ("what its files say", kinds)
    assert told["cpu_dtype"] == ("`auto`", "`auto` or `float32` or `native`")
    assert told["auto_load"] == ("on", "on, off")
    assert told["queue_timeout"] == ("`300`", "0.001 to 10,000,000")
    assert told["chat_template"] == ("the model's own", "file")
    assert told["data_dir"] == ("the user's data folder", "folder")
