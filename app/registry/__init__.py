"""What the server knows from one start to the next: models, settings and downloads."""
