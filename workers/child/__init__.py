"""A worker process from the inside: its event loop, the threads that prepare requests, the engine's thread."""
