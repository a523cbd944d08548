"""The clients that can be told of a server, each with what its own documents ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlx_server.app.connect.target import Target

NAME = "mlx-server"
KEY_VARIABLE = "MLX_SERVER_API_KEY"
NEVER = "2026-01-01T00:00:00.000Z"
"""When Cline's provider was changed last: it wants some time there."""


@dataclass(frozen=True)
class ConfigFile:
    """A file below the user's home folder, and the values that belong into it. `format` is json, toml, yaml or env."""

    path: str
    format: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Setup:
    """What a client needs: files, variables of its environment, the command that starts it, and a word on it."""

    command: str
    files: tuple[ConfigFile, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Client:
    """A client by the name that `connect` knows it by.

    `prompt`: about how many tokens its first request has, where it has many, by SmolLM2's tokenizer.
    """

    name: str
    title: str
    setup: Callable[[Target], Setup]
    prompt: int = 0

    def fits(self, target: Target) -> bool:
        """Whether its first request and an answer fit into the context."""
        return self.prompt + target.output <= target.context


def codex(target: Target) -> Setup:
    """https://github.com/openai/codex/blob/main/docs/config.md"""
    provider = {"name": NAME, "base_url": target.url, "wire_api": "responses"}
    keyed = {"env_key": KEY_VARIABLE} if target.key else {}
    values = {
        "model": target.model,
        "model_provider": NAME,
        "model_context_window": target.context,
        "model_providers": {NAME: {**provider, **keyed}},
    }
    return Setup("codex", (ConfigFile(".codex/config.toml", "toml", values),), key_environment(target))


def claude_code(target: Target) -> Setup:
    """https://code.claude.com/docs/en/llm-gateway"""
    environment = {
        "ANTHROPIC_BASE_URL": target.root,
        "ANTHROPIC_AUTH_TOKEN": target.client_key,
        "ANTHROPIC_MODEL": target.model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": target.model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": target.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": target.model,
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(target.context),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(target.output),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    return Setup("claude", (ConfigFile(".claude/settings.json", "json", {"env": environment}),))


def opencode(target: Target) -> Setup:
    """https://opencode.ai/docs/providers"""
    model = {
        "name": target.model,
        "tool_call": True,
        "attachment": target.sees,
        "limit": {"context": target.context, "output": target.output},
    }
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": NAME,
        "options": {"baseURL": target.url, "apiKey": target.client_key},
        "models": {target.model: model},
    }
    values = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {NAME: provider},
        "model": f"{NAME}/{target.model}",
    }
    return Setup("opencode", (ConfigFile(".config/opencode/opencode.json", "json", values),))


def aider(target: Target) -> Setup:
    """https://aider.chat/docs/llms/openai-compat.html"""
    name = f"openai/{target.model}"
    values = {"model": name, "openai-api-base": target.url, "openai-api-key": target.client_key}
    facts = {
        "litellm_provider": "openai",
        "mode": "chat",
        "max_input_tokens": target.context,
        "max_output_tokens": target.output,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
    }
    return Setup(
        "aider",
        (
            ConfigFile(".aider.conf.yml", "yaml", values),
            ConfigFile(".aider.model.metadata.json", "json", {name: facts}),
        ),
    )


def cline(target: Target) -> Setup:
    """https://docs.cline.bot/provider-config/openai-compatible"""
    provider = "openai-compatible"
    settings = {"provider": provider, "apiKey": target.client_key, "model": target.model, "baseUrl": target.url}
    values = {
        "version": 1,
        "lastUsedProvider": provider,
        "modes": {},
        "providers": {provider: {"settings": settings, "updatedAt": NEVER, "tokenSource": "manual"}},
    }
    return Setup(
        "cline",
        (ConfigFile(".cline/data/settings/providers.json", "json", values),),
        note="In VS Code: provider `OpenAI Compatible` with the base URL, key and model that stand above,"
        f" and a context window of {target.context} tokens.",
    )


def continue_(target: Target) -> Setup:
    """https://docs.continue.dev/reference"""
    model = {
        "name": f"{NAME}: {target.model}",
        "provider": "openai",
        "model": target.model,
        "apiBase": target.url,
        "apiKey": target.client_key,
        "roles": ["chat", "edit", "apply"],
        "capabilities": ["tool_use", *(["image_input"] if target.sees else [])],
        "defaultCompletionOptions": {"contextLength": target.context, "maxTokens": target.output},
    }
    values = {"name": "Local", "version": "1.0.0", "schema": "v1", "models": [model]}
    path = ".continue/config.yaml"
    return Setup(f"cn --config ~/{path}", (ConfigFile(path, "yaml", values),))


def qwen_code(target: Target) -> Setup:
    """https://qwenlm.github.io/qwen-code-docs/en/users/configuration/model-providers/"""
    model = {
        "id": target.model,
        "name": target.model,
        "baseUrl": target.url,
        "envKey": KEY_VARIABLE,
        "generationConfig": {"contextWindowSize": target.context},
    }
    values = {
        "modelProviders": {"openai": [model]},
        "env": {KEY_VARIABLE: target.client_key},
        "security": {"auth": {"selectedType": "openai"}},
        "model": {"name": target.model},
    }
    return Setup("qwen", (ConfigFile(".qwen/settings.json", "json", values),))


def crush(target: Target) -> Setup:
    """https://github.com/charmbracelet/crush#custom-providers"""
    model = {
        "id": target.model,
        "name": target.model,
        "context_window": target.context,
        "default_max_tokens": target.output,
        "supports_attachments": target.sees,
    }
    provider = {
        "name": NAME,
        "type": "openai-compat",
        "base_url": target.url,
        "api_key": target.client_key,
        "models": [model],
    }
    chosen = {"model": target.model, "provider": NAME}
    values = {
        "$schema": "https://charm.land/crush.json",
        "providers": {NAME: provider},
        "models": {"large": chosen, "small": chosen},
    }
    return Setup("crush", (ConfigFile(".config/crush/crush.json", "json", values),))


def pi(target: Target) -> Setup:
    """The package @mariozechner/pi-coding-agent, docs/models.md"""
    model = {
        "id": target.model,
        "contextWindow": target.context,
        "maxTokens": target.output,
        "input": ["text", *(["image"] if target.sees else [])],
    }
    provider = {"baseUrl": target.url, "api": "openai-completions", "apiKey": target.client_key, "models": [model]}
    file = ConfigFile(".pi/agent/models.json", "json", {"providers": {NAME: provider}})
    return Setup(f"pi --provider {NAME} --model {target.model}", (file,))


def mini_swe_agent(target: Target) -> Setup:
    """https://mini-swe-agent.com/latest/models/local_models/"""
    values = {
        "MSWEA_MODEL_NAME": f"openai/{target.model}",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_CONFIGURED": "true",
        "OPENAI_API_BASE": target.url,
        "OPENAI_API_KEY": target.client_key,
    }
    return Setup("mini", (ConfigFile(".config/mini-swe-agent/.env", "env", values),))


def gptme(target: Target) -> Setup:
    """https://gptme.org/docs/custom-providers.html"""
    provider = {
        "name": NAME,
        "base_url": target.url,
        "api_key": target.client_key,
        "default_model": target.model,
    }
    values = {"env": {"MODEL": f"{NAME}/{target.model}"}, "providers": [provider]}
    return Setup("gptme", (ConfigFile(".config/gptme/config.toml", "toml", values),))


def zed(target: Target) -> Setup:
    """https://zed.dev/docs/ai/llm-providers"""
    model = {
        "name": target.model,
        "display_name": target.model,
        "max_tokens": target.context,
        "max_output_tokens": target.output,
        "capabilities": {"tools": True, "images": target.sees, "parallel_tool_calls": True, "prompt_cache_key": True},
    }
    provider = {"api_url": target.url, "available_models": [model]}
    values = {
        "language_models": {"openai_compatible": {NAME: provider}},
        "agent": {"default_model": {"provider": NAME, "model": target.model}},
    }
    return Setup(
        "zed",
        (ConfigFile(".config/zed/settings.json", "json", values),),
        {"MLX_SERVER_API_KEY": target.client_key},
        note="Zed keeps the key in the system's keychain: enter it once in its agent settings, or set the variable.",
    )


def open_webui(target: Target) -> Setup:
    """https://docs.openwebui.com/getting-started/env-configuration"""
    environment = {
        "OPENAI_API_BASE_URL": target.url,
        "OPENAI_API_KEY": target.client_key,
        "ENABLE_OLLAMA_API": "false",
    }
    return Setup(
        "open-webui serve",
        environment=environment,
        note="A container reaches this machine as host.docker.internal: start the server with --host 0.0.0.0 and"
        " --api-key then. Once Open WebUI has started, its own admin settings win over these variables.",
    )


def openai_sdk(target: Target) -> Setup:
    """https://github.com/openai/openai-python"""
    return Setup("python", environment={"OPENAI_BASE_URL": target.url, "OPENAI_API_KEY": target.client_key})


def anthropic_sdk(target: Target) -> Setup:
    """https://github.com/anthropics/anthropic-sdk-python"""
    return Setup("python", environment={"ANTHROPIC_BASE_URL": target.root, "ANTHROPIC_API_KEY": target.client_key})


def key_environment(target: Target) -> dict[str, str]:
    """For clients that read a key from a variable that their file names."""
    return {KEY_VARIABLE: target.key} if target.key else {}


CLIENTS = {
    client.name: client
    for client in (
        Client("codex", "Codex CLI", codex, 10_500),
        Client("claude-code", "Claude Code", claude_code, 14_200),
        Client("opencode", "OpenCode", opencode, 8_900),
        Client("aider", "Aider", aider),
        Client("cline", "Cline", cline, 6_300),
        Client("continue", "Continue", continue_, 2_300),
        Client("qwen-code", "Qwen Code", qwen_code, 21_500),
        Client("crush", "Crush", crush),
        Client("pi", "pi", pi, 1_700),
        Client("mini-swe-agent", "mini-swe-agent", mini_swe_agent),
        Client("gptme", "gptme", gptme),
        Client("zed", "Zed", zed),
        Client("open-webui", "Open WebUI", open_webui),
        Client("openai", "anything on OpenAI's SDKs", openai_sdk),
        Client("anthropic", "anything on Anthropic's SDKs", anthropic_sdk),
    )
}
"""By their names."""
