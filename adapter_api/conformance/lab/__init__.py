"""The fault server beside an HTTP adapter: an engine that works, and every way to misbehave."""

from adapter_api.conformance.lab.checks import FAULT_CHECKS
from adapter_api.conformance.lab.faults import UNDERSTOOD
from adapter_api.conformance.lab.server import Lab
from adapter_api.conformance.lab.subject import HttpSubject

__all__ = ["FAULT_CHECKS", "UNDERSTOOD", "HttpSubject", "Lab"]
