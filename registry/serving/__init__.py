"""Parts shared by every front of a host: the table of its jobs, and the state folder."""

from registry.serving.jobs import Failure, Job, JobTable, Totals

__all__ = ["Failure", "Job", "JobTable", "Totals"]
