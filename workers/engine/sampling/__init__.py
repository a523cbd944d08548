"""How the next token is chosen. Engine thread only."""
