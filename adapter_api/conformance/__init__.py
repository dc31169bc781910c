"""The conformance kit: it examines whether an adapter keeps the contract.

Subclass AdapterConformance in a test, or run `worker-adapters conformance NAME`. Only that class
needs pytest; it is imported on first use.
"""

from typing import TYPE_CHECKING

from adapter_api.conformance.check import Check
from adapter_api.conformance.checks import CHECKS
from adapter_api.conformance.examination import Examination, examine, with_needs
from adapter_api.conformance.report import Report, Result, Verdict
from adapter_api.conformance.runner import run_check
from adapter_api.conformance.subject import MakeAdapter, Subject
from adapter_api.conformance.verdict import (
    CAPABILITIES,
    Absent,
    Misuse,
    NotExamined,
    Status,
    Violation,
)
from adapter_api.lazy import lazy_exports

if TYPE_CHECKING:
    from adapter_api.conformance.cases import AdapterConformance

__all__ = [
    "CAPABILITIES",
    "CHECKS",
    "Absent",
    "AdapterConformance",
    "Check",
    "Examination",
    "MakeAdapter",
    "Misuse",
    "NotExamined",
    "Report",
    "Result",
    "Status",
    "Subject",
    "Verdict",
    "Violation",
    "examine",
    "run_check",
    "with_needs",
]


__getattr__ = lazy_exports(__name__)
