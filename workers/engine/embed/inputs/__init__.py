"""What models that write no text are given: tokens, cut or refused if too many. Tokenizer's thread only."""
