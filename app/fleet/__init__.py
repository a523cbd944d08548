"""All models of one server: which may be named, which are loaded, and who is evicted for whom."""
