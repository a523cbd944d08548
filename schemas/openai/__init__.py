"""OpenAI's APIs: chat, completions, embeddings, responses, conversations."""
