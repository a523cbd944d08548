"""The application and the protocols that it is served over."""
