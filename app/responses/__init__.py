"""What `/v1/responses` and `/v1/conversations` keep, and responses that are made in the background."""
