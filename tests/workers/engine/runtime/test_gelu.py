import math

import numpy as np
import pytest

from mlx_server.workers.engine.embed.encoder_models import import_architecture
from mlx_server.workers.engine.runtime.gelu import RationalGELU, with_exact_gelu

pytestmark = pytest.mark.model


def test_the_fast_gelu_is_the_exact_one() -> None:
    import mlx.core as mx

    x = np.concatenate([np.linspace(-12, 12, 24_001), [-1e30, -50, 0, 50, 1e30]]).astype(np.float32)
    expected = 0.5 * x.astype(np.float64) * (1 + np.array([math.erf(value / math.sqrt(2)) for value in x]))
    computed = np.array(RationalGELU()(mx.array(x)))
    assert np.all(np.abs(computed - expected) <= 2e-6 + 2e-7 * np.abs(expected))


def test_every_gelu_of_a_model_becomes_exact() -> None:
    import mlx.nn as nn
    from support.tiny.encoders import CONFIGS

    module = import_architecture("modernbert")
    model = module.Model(
        module.ModelConfig.from_dict({"model_type": "modernbert", "vocab_size": 9} | CONFIGS["modernbert"])
    )
    assert any(isinstance(part, nn.GELU) for part in model.modules())
    model = with_exact_gelu(model)
    assert any(isinstance(part, RationalGELU) for part in model.modules())
    assert not any(isinstance(part, nn.GELU) for part in model.modules())
