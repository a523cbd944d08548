"""What `/v1/files`, `/v1/uploads` and `/v1/batches` take and answer."""
