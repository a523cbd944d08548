"""An agent of OpenAI's Agents SDK, on the Responses API: `openai_agents.py PROMPT`."""

import subprocess
import sys

from agents import Agent, Runner, function_tool, set_tracing_disabled


@function_tool
def run_command(command: str) -> str:
    """Run a command in a shell, and give what it prints."""
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=False).stdout


set_tracing_disabled(True)
worker = Agent(name="worker", instructions="You work in a shell.", tools=[run_command], model="oracle")
print(Runner.run_sync(worker, sys.argv[1]).final_output)
