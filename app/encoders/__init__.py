"""One encoder per public API. Only encoders know an API's words."""
