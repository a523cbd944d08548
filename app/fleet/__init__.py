"""All models of one server: which may be named, which are loaded, and who makes room for whom."""
