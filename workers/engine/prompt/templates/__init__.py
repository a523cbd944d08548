"""Chat templates: the model's own, a client's (in a process of its own), and prefixes in a template's place."""
