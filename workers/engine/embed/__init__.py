"""Vectors and scores, from models that write no text. Engine thread, but for what says otherwise."""
