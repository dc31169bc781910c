"""Structuring and describing an adapter's options."""
