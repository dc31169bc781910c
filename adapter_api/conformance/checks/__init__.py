"""The checks, by what they are about. Each comes after those it needs."""

from adapter_api.conformance.check import Check
from adapter_api.conformance.checks.cancelling import CANCELLING
from adapter_api.conformance.checks.engine import ENGINE
from adapter_api.conformance.checks.errors import ERRORS
from adapter_api.conformance.checks.hygiene import HYGIENE
from adapter_api.conformance.checks.load import LOAD
from adapter_api.conformance.checks.secrets import SECRETS
from adapter_api.conformance.checks.stream import STREAM

CHECKS: tuple[Check, ...] = (*STREAM, *CANCELLING, *LOAD, *ERRORS, *ENGINE, *HYGIENE, *SECRETS)

__all__ = ["CHECKS"]
