"""The command `worker-adapters`."""

from registry.cli.main import main

__all__ = ["main"]
