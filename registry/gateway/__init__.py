"""The gateway: an OpenAI-compatible HTTP front door over the pools of one host."""

from registry.gateway.app import app
from registry.gateway.dashboard import EventLog
from registry.gateway.gateway import Gateway
from registry.gateway.keys import Keyring
from registry.gateway.settings import Settings

__all__ = ["EventLog", "Gateway", "Keyring", "Settings", "app"]
