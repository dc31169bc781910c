"""What an HTTP adapter is asked besides the general checks."""

from adapter_api.conformance.check import Check
from adapter_api.conformance.lab.down import DOWN
from adapter_api.conformance.lab.faults import CHAPTER_CHECKS
from adapter_api.conformance.lab.watched import WATCHED

FAULT_CHECKS: tuple[Check, ...] = (*CHAPTER_CHECKS, *WATCHED, *DOWN)
"""The checks of an HttpSubject, after the general ones."""
