"""The front end's side of a worker process. Everything here runs on the front end's event loop."""
