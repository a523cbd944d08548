"""FLUX.2's networks with tiny random weights, behind the engine and in mlx-vlm's own pipeline.

mlx-vlm has the sizes of the published models in its code, so that no folder of another size can be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def make_flux2(folder: Path, *, guided: bool = False) -> tuple[Any, Any]:
    """The family and mlx-vlm's pipeline, which share their weights; `folder` gets the tokenizer. `guided`: the variant
    that knows guidance."""
    import mlx.core as mx
    from drawing.folder import write_tokenizer
    from mlx_vlm.models.flux2.config import get_variant
    from mlx_vlm.models.flux2.constants import ModelConfig
    from mlx_vlm.models.flux2.pipeline import Flux2ImageEdit, Flux2RuntimeConfig
    from mlx_vlm.models.flux2.qwen.text_encoder import Qwen3TextEncoder
    from mlx_vlm.models.flux2.tokenizer import Flux2Tokenizer
    from mlx_vlm.models.flux2.transformer import Flux2Transformer
    from mlx_vlm.models.flux2.vae import Flux2VAE
    from mlx_vlm.models.flux2.vae.decoder import Flux2Decoder
    from mlx_vlm.models.flux2.vae.encoder import Flux2Encoder

    from mlx_server.workers.engine.draw.flux2 import Flux2

    ModelConfig.precision = mx.float32
    write_tokenizer(folder / "tokenizer")
    variant = get_variant("flux2-klein-base-4b" if guided else "flux2-klein-4b")
    mx.random.seed(3)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    text_encoder = Qwen3TextEncoder(vocab_size=512, hidden_size=32, num_hidden_layers=28, intermediate_size=64, **heads)
    transformer = Flux2Transformer(
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=96,
        axes_dims_rope=(4, 4, 4, 4),
    )
    channels = (32, 32, 32, 32)
    vae = Flux2VAE(channels, include_encoder=True, encoder_block_out_channels=channels)
    # The library draws nothing below 256 pixels, where these have a third of the work.
    vae.decoder = Flux2Decoder(block_out_channels=channels, layers_per_block=0)
    vae.encoder = Flux2Encoder(block_out_channels=channels, layers_per_block=0)
    vae.bn.running_mean = mx.random.normal((128,))
    vae.bn.running_var = mx.random.uniform(0.5, 2.0, (128,))
    pipeline: Any = object.__new__(Flux2ImageEdit)
    pipeline.variant = variant
    pipeline.runtime_config = Flux2RuntimeConfig(evict_text_encoder=False)
    pipeline.tokenizer = Flux2Tokenizer(folder)
    pipeline.text_encoder, pipeline.transformer, pipeline.vae = text_encoder, transformer, vae
    pipeline.prompt_cache = {}
    return Flux2(variant, pipeline.tokenizer, text_encoder, transformer, vae), pipeline
