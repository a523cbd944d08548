"""Parsers for models whose syntax of function calls neither mlx-lm nor mlx-vlm reads."""

from __future__ import annotations

import json
import re
from typing import Any

DSML_CALL = re.compile(r'<｜DSML｜invoke name="([^"]+)">(.*?)</｜DSML｜invoke>', re.DOTALL)
DSML_ARGUMENT = re.compile(
    r'<｜DSML｜parameter name="([^"]+)" string="(true|false)">(.*?)</｜DSML｜parameter>', re.DOTALL
)


def parse_dsml(text: str, _tools: Any = None) -> list[dict[str, Any]]:
    """DeepSeek V3.2: `invoke` and `parameter` tags; a parameter that is not a string is JSON."""
    return [
        {
            "name": name,
            "arguments": {
                key: value if string == "true" else json.loads(value)
                for key, string, value in DSML_ARGUMENT.findall(body)
            },
        }
        for name, body in DSML_CALL.findall(text)
    ]
