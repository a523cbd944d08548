"""An agent of smolagents, on chat completions: `smolagents_agent.py PROMPT`."""

import os
import subprocess
import sys

from smolagents import OpenAIServerModel, ToolCallingAgent, tool


@tool
def run_command(command: str) -> str:
    """Run a command in a shell, and give what it prints.

    Args:
        command: The command.
    """
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=False).stdout


model = OpenAIServerModel("oracle", api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
print(ToolCallingAgent([run_command], model).run(sys.argv[1]))
