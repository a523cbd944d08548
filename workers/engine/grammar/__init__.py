"""What an answer must be, as grammars that are enforced token by token. Tokenizer's thread; masks on the engine's."""
