"""A server of faults: one named scenario for everything a completions server can do wrong."""

from adapter_api.faults.scenario import LIMIT_S, Expect, Scenario
from adapter_api.faults.scenarios import CHAPTERS, SCENARIOS
from adapter_api.faults.server import FaultServer
from adapter_api.faults.wire import ClientGone, Connection, Request, Wire

__all__ = [
    "CHAPTERS",
    "LIMIT_S",
    "SCENARIOS",
    "ClientGone",
    "Connection",
    "Expect",
    "FaultServer",
    "Request",
    "Scenario",
    "Wire",
]
