"""Helpers for reading options and writing to a terminal."""
