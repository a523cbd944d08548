"""From a client's bytes to an outside type, or a refusal that names the field."""
