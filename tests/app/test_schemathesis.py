"""What a machine makes of the OpenAPI document: requests by the thousand, valid and not, to every endpoint."""

from collections.abc import Iterator

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import CheckContext
from support.servers import SCRIPTED, Server

from mlx_server.app.openapi import document
from mlx_server.app.server import ROUTES

ENDPOINTS = [(method, path) for path, item in document(ROUTES)["paths"].items() for method in item]
print(CheckContext)
