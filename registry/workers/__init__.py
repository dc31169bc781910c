"""Workers declared in files: the TOML file, handoff files, and following them."""

from registry.workers.spec import WorkersError
from registry.workers.watch import AdapterHost, WorkersWatch

__all__ = ["AdapterHost", "WorkersError", "WorkersWatch"]
