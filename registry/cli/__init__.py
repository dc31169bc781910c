"""The command `worker-adapters`."""

from registry.cli.entry import main

__all__ = ["main"]
