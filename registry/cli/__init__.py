"""The command `worker-adapters`."""

from registry.cli.start import main

__all__ = ["main"]
