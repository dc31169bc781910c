"""The checks, by topic. Each comes after those it needs."""

from adapter_api.conformance.check import Check
from adapter_api.conformance.checks.cancelling import CANCELLING
from adapter_api.conformance.checks.down import DOWN
from adapter_api.conformance.checks.engine import ENGINE
from adapter_api.conformance.checks.errors import ERRORS
from adapter_api.conformance.checks.faults import FAULTS
from adapter_api.conformance.checks.hygiene import HYGIENE
from adapter_api.conformance.checks.load import LOAD
from adapter_api.conformance.checks.proxied import PROXIED
from adapter_api.conformance.checks.requests import REQUESTS
from adapter_api.conformance.checks.secrets import SECRETS
from adapter_api.conformance.checks.seen import SEEN
from adapter_api.conformance.checks.silence import SILENCE
from adapter_api.conformance.checks.stream import STREAM
from adapter_api.conformance.checks.tools import TOOLS

GENERAL: tuple[Check, ...] = (
    *STREAM,
    *TOOLS,
    *CANCELLING,
    *LOAD,
    *ERRORS,
    *ENGINE,
    *HYGIENE,
    *SECRETS,
)
HTTP: tuple[Check, ...] = (*PROXIED, *REQUESTS, *SILENCE, *SEEN, *FAULTS, *DOWN)
CHECKS: tuple[Check, ...] = (*GENERAL, *HTTP)

__all__ = ["CHECKS", "GENERAL", "HTTP"]
