"""An observer for tests, which remembers every notice."""

from typing import Any

from adapter_api import hookimpl
from registry.plugins.extensions import NOTICES

OUTCOMES = {"job_ended", "job_failed", "job_cancelled"}


class Recorder:
    """Remembers every notice."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def hooks(self) -> list[str]:
        """Return the hooks that were called, without those of attempts, in order."""
        return [hook for hook, _ in self.told if not hook.startswith("attempt")]

    def outcomes(self) -> list[str]:
        """Return those of them that report how a job ended."""
        return [hook for hook in self.hooks() if hook in OUTCOMES]

    def last(self, hook: str) -> Any:
        """Return the last notice of this hook."""
        return next(notice for name, notice in reversed(self.told) if name == hook)


def _recording(name: str) -> Any:
    argument = "adapter" if name.startswith("adapter") else "job"
    argument = "attempt" if name.startswith("attempt") else argument
    argument = "change" if name.endswith("_changed") else argument
    source = f"def {name}(self, {argument}): self.told.append(({name!r}, {argument}))"
    scope: dict[str, Any] = {}
    exec(source, scope)
    return hookimpl(scope[name])


for _name in NOTICES:
    setattr(Recorder, _name, _recording(_name))
