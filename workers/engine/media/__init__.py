"""Clients' files become pictures, sounds and films. Decoder threads; `*_child` files are processes of their own."""
