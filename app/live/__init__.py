"""Socket.IO at `/socket.io/`: tells listeners what happens. Costs nothing while nobody listens."""
