"""One model in several processes, which compute in step. Engine thread, but for `orders`."""
