"""Models that draw: from a prompt to pictures, one denoising step after the other. The engine's thread runs it all, but
for `files`, which writes pictures for clients.

Latents are float32 [B, channels, 1, H / 8, W / 8] for B pictures that are drawn together, or [B, ...] for short.
"""
