"""The bytes of clients' pictures, sounds and films: out of the request, from the network, or from a folder."""
