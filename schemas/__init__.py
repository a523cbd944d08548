"""The shapes of everything that crosses a border: clients' JSON, inside requests, messages between processes."""
