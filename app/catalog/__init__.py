"""Models on this machine: what they are, before any is loaded."""
