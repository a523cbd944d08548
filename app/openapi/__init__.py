"""The OpenAPI document, generated from routes, types and a line for each route."""
