"""The scripted server under the name that older tests import it by."""

from adapter_api.faults import Connection, Request, Script, ScriptServer, Wire

__all__ = ["Connection", "Request", "Script", "ScriptServer", "Wire"]
