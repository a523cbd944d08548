"""Embeddings of texts and pictures by a model that also writes: over HTTP, with the official SDK."""

from __future__ import annotations

import random
from typing import Any

import mlx.core as mx
import numpy as np
import openai
import pytest
from mlx_vlm.utils import load_model
from shapes.draw import Scene, draw_scene
from support.pictures import data_url
from support.servers import ROOT, Server

from mlx_server.workers.engine.platform import configure, suit_weights

MODEL = ROOT / "tests" / "shapes" / "model"
TEXT = "Describe the picture."

pytestmark = pytest.mark.model
