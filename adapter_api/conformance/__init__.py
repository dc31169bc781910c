"""The conformance kit: proves that an adapter keeps the contract, whoever wrote it.

Subclass AdapterConformance in a test, or run `worker-adapters conformance NAME`. Only the two
classes need pytest; they load when they are asked for.
"""

from typing import TYPE_CHECKING

from adapter_api.conformance.check import CAPABILITIES, Absent, Check, Misuse, Violation
from adapter_api.conformance.checks import CHECKS
from adapter_api.conformance.report import Report, Result, Status
from adapter_api.conformance.runner import judge, judge_all
from adapter_api.conformance.subject import MakeAdapter, Subject

if TYPE_CHECKING:
    from adapter_api.conformance.cases import AdapterConformance, HttpAdapterConformance

__all__ = [
    "CAPABILITIES",
    "CHECKS",
    "Absent",
    "AdapterConformance",
    "Check",
    "HttpAdapterConformance",
    "MakeAdapter",
    "Misuse",
    "Report",
    "Result",
    "Status",
    "Subject",
    "Violation",
    "judge",
    "judge_all",
]


def __getattr__(name: str) -> object:
    if name not in ("AdapterConformance", "HttpAdapterConformance"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from adapter_api.conformance import cases

    return getattr(cases, name)
