"""The scripted adapter, for tests."""

from adapters.mock.adapter import MockAdapter
from adapters.mock.config import MockConfig

__all__ = ["MockAdapter", "MockConfig"]
