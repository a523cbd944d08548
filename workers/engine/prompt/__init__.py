"""From a request to token ids. Tokenizer's thread only."""
