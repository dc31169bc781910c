"""A server of faults: one named scenario for everything a completions server can do wrong."""

from tests.faults.scenario import LIMIT_S, Expect, Scenario
from tests.faults.scenarios import CHAPTERS, SCENARIOS
from tests.faults.server import FaultServer
from tests.faults.wire import ClientGone, Connection, Request, Wire

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
