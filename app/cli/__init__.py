"""The command line: what is typed, and what a person at the terminal sees."""
