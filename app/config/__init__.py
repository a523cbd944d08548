"""The settings: from flags, the environment and a file to one object."""
