"""The repository's one scripted HTTP server, and a named scenario for every known fault."""

from adapter_api.faults.proxy import PASS, Damage, FaultProxy
from adapter_api.faults.scenario import LIMIT_S, Expect, Scenario
from adapter_api.faults.scenarios import CHAPTERS, SCENARIOS
from adapter_api.faults.server import FaultServer, Script, ScriptServer
from adapter_api.faults.thread import scripted_engine
from adapter_api.faults.wire import ClientGone, Connection, Request, Wire

__all__ = [
    "CHAPTERS",
    "LIMIT_S",
    "PASS",
    "SCENARIOS",
    "ClientGone",
    "Connection",
    "Damage",
    "Expect",
    "FaultProxy",
    "FaultServer",
    "Request",
    "Scenario",
    "Script",
    "ScriptServer",
    "Wire",
    "scripted_engine",
]
