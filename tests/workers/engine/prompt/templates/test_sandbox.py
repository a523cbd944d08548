"""Templates that nobody vouches for: whatever they do, it ends soon and here."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from support.running.servers import wait_for

from mlx_server.workers.engine.prompt.templates.child import MAX_OUTPUT
from mlx_server.workers.engine.prompt.templates.sandbox import Sandbox, TemplateFailed, TemplateRefused, TemplateStopped

LIMIT_S = 1.0
ENOUGH_S = 15.0
"""For a start of the process and a limit, on a busy machine."""
POWER = "{{ (3 ** (7 ** 9)) is none }}"
"""One long step in C, and a constant: Python's own code can't interrupt it, and parsing computes it."""

NESTED = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(limit_s=LIMIT_S, memory_bytes=256 << 20)
    yield made
    made.close()


def render(sandbox: Sandbox, template: str, **context: Any) -> str:
    return sandbox.render(template, context, sandbox.deadline())


def test_a_template_is_rendered_with_transformers_own_helpers(sandbox: Sandbox) -> None:
    template = """
    {%- set ns = namespace(n=0) %}
    {%- for m in messages %}
      {%- if m == 'skip' %}{% continue %}{% endif %}
      {%- set ns.n = ns.n + 1 %}
      {%- generation %}{{ m }}{% endgeneration %},
      {%- if m == 'last' %}{% break %}{% endif %}
    {%- endfor %}
    {{- ns.n }} {{ dict(a='<é>') | tojson }} {{ strftime_now('%Y') | length }}"""
    text = render(sandbox, template, messages=["a", "skip", "last", "never"])
    assert text == 'a,last,2 {"a": "<é>"} 4'


def test_a_template_is_rendered_exactly_as_transformers_renders_it(sandbox: Sandbox) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    template = """
{% for m in messages %}
    {% if loop.first %}
  [{{ m.content | tojson(indent=2) }}]
    {% endif %}
  {%- generation %} {{ m.content['x'] | default('none') }} {% endgeneration %}
{% endfor %}
{{ tools is none }} {{ add_generation_prompt }} {{ extra }}"""
    messages = [{"role": "user", "content": {"x": "<é>"}}, {"role": "user", "content": {}}]
    [expected], _ = render_jinja_template([messages], chat_template=template, extra=[1, 2.5, None])
    context = {"messages": messages, "tools": None, "add_generation_prompt": False, "extra": [1, 2.5, None]}
    assert render(sandbox, template, **context) == expected


def test_the_process_is_kept_warm(sandbox: Sandbox) -> None:
    assert render(sandbox, "a") == "a"
    pid = sandbox.pid
    for template in ("{{ 1 + 1 }}", "{% if %}", "{{ nothing.at.all }}", "b"):
        try:
            render(sandbox, template)
        except TemplateFailed:
            continue
    assert sandbox.pid == pid


def test_variables_are_what_a_template_reads(sandbox: Sandbox) -> None:
    template = "{% set b = a %}{{ b }}{{ raise_exception }}{% for c in d %}{{ c }}{% endfor %}{{ range(3) }}"
    assert sandbox.variables(template, sandbox.deadline()) == {"a", "d"}


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{{ 'x' * 10**9 }}", "memory"),
        (
            "{% set ns = namespace(x='x' * 999) %}{% for i in range(99) %}{% set ns.x = ns.x * 2 %}{% endfor %}",
            "memory",
        ),
        ("{% for i in range(9999) %}{% for j in range(9999) %}" + 99 * "x" + 2 * "{% endfor %}", str(MAX_OUTPUT)),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", ""),
        ("{{ missing.attribute }}", "'missing' is undefined"),
        ("{{ '' + 1 }}", "str"),
        ("{{ '\\ud800' }}", "surrogates"),
        ("{% if %}", "line 1"),
        ("text\n{% endfor %}", "line 2"),
        ("{{ messages.append(1) }}", ""),
        ("{% include 'other' %}", "loader"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ namespace(_x=1) }}", "underscore"),
        ("{{ '%s' | format(cycler.__init__.__globals__) }}", "unsafe"),
    ],
    ids=range(16),
)
def test_a_template_that_fails_says_why(sandbox: Sandbox, template: str, reason: str) -> None:
    began = time.monotonic()
    with pytest.raises(TemplateFailed) as caught:
        render(sandbox, template, messages=[])
    assert reason in str(caught.value)
    assert time.monotonic() - began < ENOUGH_S
    assert render(sandbox, "next") == "next"


def test_a_template_that_refuses_is_told_from_one_that_fails(sandbox: Sandbox) -> None:
    with pytest.raises(TemplateRefused, match=r"^roles must alternate$"):
        render(sandbox, "{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    ("template", "ask"), [(NESTED, "render"), (POWER, "render"), (POWER, "variables")], ids=["loop", "sum", "constant"]
)
def test_a_template_that_does_not_end_is_ended(sandbox: Sandbox, template: str, ask: str) -> None:
    deadline = sandbox.deadline()
    pid, began = sandbox.pid, time.monotonic()
    with pytest.raises(TemplateStopped) as caught:
        sandbox.render(template, {}, deadline) if ask == "render" else sandbox.variables(template, deadline)
    assert time.monotonic() - began < ENOUGH_S
    assert str(caught.value) == "took longer than 1 seconds"
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert render(sandbox, "next") == "next"


def test_all_that_one_deadline_covers_shares_its_time(sandbox: Sandbox) -> None:
    deadline = sandbox.deadline()
    with pytest.raises(TemplateStopped):
        sandbox.render(NESTED, {}, deadline)
    began = time.monotonic()
    with pytest.raises(TemplateStopped):
        sandbox.render("fine", {}, deadline)
    assert time.monotonic() - began < LIMIT_S / 2, "not even a process is started"


def test_a_process_that_dies_is_replaced(sandbox: Sandbox) -> None:
    render(sandbox, "a")
    deadline, pid = sandbox.deadline(), sandbox.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(TemplateStopped, match="ended the process"):
        sandbox.render("b", {}, deadline)
    assert render(sandbox, "c") == "c"
    assert sandbox.pid != pid


def test_memory_is_watched_where_the_system_does_not_limit_it() -> None:
    # A limit that is so small that the process is above it as soon as it works.
    sandbox = Sandbox(limit_s=60, memory_bytes=512 << 20)
    try:
        sandbox.deadline()
        sandbox._most_memory = 1
        with pytest.raises(TemplateStopped, match="memory"):
            render(sandbox, NESTED)
    finally:
        sandbox.close()


def test_a_large_conversation_goes_through(sandbox: Sandbox) -> None:
    content = "wörd 🦊 " * 300_000
    assert render(sandbox, "{{ messages[0] }}", messages=[content]) == content


def test_the_process_has_no_secrets_and_no_files(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_SERVER_API_KEY", "secret")
    sandbox.close()
    with open(__file__):
        render(sandbox, "a")
        process = psutil.Process(sandbox.pid)
        assert process.open_files() == []
        assert "MLX_SERVER_API_KEY" not in process.environ()
        assert os.getsid(process.pid) != os.getsid(0), "Ctrl-C in a terminal does not reach it"


@pytest.mark.skipif(sys.platform != "linux", reason="address space is not limited elsewhere")
def test_the_process_may_use_little_memory_and_time(sandbox: Sandbox) -> None:
    render(sandbox, "a")
    process = psutil.Process(sandbox.pid)
    before = process.memory_info().vms
    most, _ = process.rlimit(psutil.RLIMIT_AS)
    assert before < most <= before + (300 << 20)
    assert process.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    soft, _ = process.rlimit(psutil.RLIMIT_CPU)
    assert soft <= sum(process.cpu_times()[:2]) + LIMIT_S + 3


def test_close_ends_the_process_and_may_be_called_again() -> None:
    sandbox = Sandbox()
    sandbox.close()
    assert render(sandbox, "a") == "a"
    pid = sandbox.pid
    assert pid is not None
    sandbox.close()
    sandbox.close()
    assert not psutil.pid_exists(pid)
    assert sandbox.pid is None


def test_the_process_ends_with_the_one_that_started_it() -> None:
    code = (
        "from mlx_server.workers.engine.prompt.templates.sandbox import Sandbox\n"
        "import os\n"
        "s = Sandbox(); s.deadline(); print(s.pid, flush=True); os._exit(0)"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_the_process_loads_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys, mlx_server.workers.engine.prompt.templates.child\n"
        "print(*sorted({'mlx', 'mlx_lm', 'transformers', 'numpy', 'psutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


def test_the_environment_is_the_one_that_keeps_code_in() -> None:
    from mlx_server.workers.engine.prompt.templates.language import environment

    assert isinstance(environment(), ImmutableSandboxedEnvironment)
