"""Bulk runs: many rows, each exactly once in the results, over the pools of one host."""

from registry.batch.errors import BatchError
from registry.batch.local import Summary
from registry.batch.pace import Limits
from registry.batch.rows import Mapped
from registry.batch.runs import Plan, run, run_plan

__all__ = ["BatchError", "Limits", "Mapped", "Plan", "Summary", "run", "run_plan"]
