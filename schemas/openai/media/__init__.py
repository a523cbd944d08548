"""OpenAI's APIs of sounds and pictures."""
