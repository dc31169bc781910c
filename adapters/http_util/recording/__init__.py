"""Recordings of HTTP exchanges: writing, reading and replaying them."""
