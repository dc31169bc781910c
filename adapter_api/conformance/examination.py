"""An examination: an adapter, the servers beside it, and the verdicts so far."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

from adapter_api.conformance.check import Check
from adapter_api.conformance.checks import CHECKS
from adapter_api.conformance.jobs import run
from adapter_api.conformance.lab import Lab
from adapter_api.conformance.report import Report, Result
from adapter_api.conformance.runner import blocked, run_check, run_in_new_loop
from adapter_api.conformance.subject import MakeAdapter, Network, Subject, check_maker
from adapter_api.conformance.verdict import Violation
from adapter_api.task import TaskRequest

PROBE_LIMIT_S = 5.0
"""The limit for the job that shows which protocol an adapter speaks."""


class Examination:
    """Examines one adapter while entered. The lab's servers run beside an HTTP adapter.

    Args:
        make: Makes a new adapter that is not started yet; takes options of the adapter's config.
            An adapter that takes a `base_url` is an HTTP adapter.
        engine_url: The base URL of an engine that works, for an HTTP adapter. Without one it gets
            the lab's, which speaks the completions protocol.
        checks: The checks to run; each comes after those it needs.
        task: Fields of TaskRequest for every job, such as the model.
        failing: A job that must fail, None if none is known.
        absent: Capabilities that are absent, with the reason.

    Raises:
        Misuse: On entering, if this cannot be examined.
        RegistryError: On entering, if the adapter cannot be made.
    """

    def __init__(
        self,
        make: MakeAdapter,
        *,
        engine_url: str | None = None,
        checks: Sequence[Check] = CHECKS,
        task: Mapping[str, Any] = MappingProxyType({}),
        failing: TaskRequest | None = None,
        absent: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.checks = checks
        self.results: dict[str, Result] = {}
        self._make = make
        self._engine_url = engine_url
        self._jobs: dict[str, Any] = {"task": task, "failing": failing, "absent": absent}
        self._lab: Lab | None = None

    def __enter__(self) -> Self:
        check_maker(self._make)
        try:
            self.subject = self._subject()
            self.about = self.subject.about()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._lab is not None:
            self._lab.__exit__()
            self._lab = None

    def _subject(self) -> Subject:
        if not _takes_url(self._make):
            return Subject(self._make, **self._jobs)
        self._lab = lab = Lab().__enter__()
        own = self._engine_url is not None
        url = self._engine_url or lab.engine_url
        network = Network(lab, self._make, url, own, self._requests_of_a_job(lab))
        return Subject.at_engine(network, **self._jobs)

    def _requests_of_a_job(self, lab: Lab) -> tuple[str, ...]:
        """Return the requests that a job makes of the lab's engine: they show the protocol."""
        subject = Subject.at_engine(Network(lab, self._make, lab.engine_url), **self._jobs)
        before = len(lab.server.requests)

        async def probe() -> str | None:
            async with subject.adapter() as adapter:
                await run(adapter, subject.job(deadline_s=PROBE_LIMIT_S), 2 * PROBE_LIMIT_S)
            return None

        try:
            run_in_new_loop(probe())
        except Violation:
            pass  # the checks report it
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            pass
        prefix = f"/{lab.server.scenarios['engine'].name}"
        asked = [one for one in lab.server.requests[before:] if one.method == "POST"]
        return tuple(dict.fromkeys(f"POST {one.path.removeprefix(prefix)}" for one in asked))

    def run_check(self, check: Check) -> Result:
        """Run one check, unless a check that it needs did not pass."""
        result = blocked(check, self.results) or run_check(check, self.subject)
        self.results[check.name] = result
        return result

    def report(self) -> Report:
        """Return the report on what was examined so far."""
        missing = [one.name for one in CHECKS if one.name not in self.results]
        return Report(*self.about, list(self.results.values()), missing)


def _takes_url(make: MakeAdapter) -> bool:
    """Return whether the adapter's config has a `base_url`.

    Raises:
        RegistryError: If the adapter can be made neither with nor without one.
    """
    try:
        adapter = make(base_url="http://127.0.0.1:9")
    except Exception:
        make()
        return False
    return hasattr(getattr(adapter, "config", None), "base_url")


def examine(
    make: MakeAdapter,
    *,
    checks: Iterable[Check] = CHECKS,
    on_result: Callable[[Result], None] = lambda result: None,
    **more: Any,
) -> Report:
    """Examine an adapter, outside of any event loop.

    Args:
        make: Makes a new adapter that is not started yet; takes options of the adapter's config.
        checks: The checks to run; each comes after those it needs.
        on_result: Called with each result.
        **more: The other arguments of Examination.

    Returns:
        The report.

    Raises:
        Misuse: If this cannot be examined.
        RegistryError: If the adapter cannot be made.
        KeyboardInterrupt: The user pressed Ctrl-C.
    """
    with Examination(make, checks=tuple(checks), **more) as examination:
        for check in examination.checks:
            on_result(examination.run_check(check))
        return examination.report()


def with_needs(names: Iterable[str]) -> tuple[Check, ...]:
    """Return the checks of these names and all that they need.

    Raises:
        LookupError: If a check does not exist.
    """
    checks = {check.name: check for check in CHECKS}
    wanted = set(names)
    if unknown := sorted(wanted - checks.keys()):
        raise LookupError(f"no check named {unknown[0]!r}; see CHECKS for the names")
    for check in reversed(CHECKS):
        if check.name in wanted:
            wanted.update(check.needs)
    return tuple(check for check in CHECKS if check.name in wanted)
