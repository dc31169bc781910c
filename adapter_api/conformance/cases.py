"""The kit as pytest classes: subclass one, give one fixture, run pytest."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from adapter_api.conformance.check import Check, Misuse
from adapter_api.conformance.checks import CHECKS
from adapter_api.conformance.lab import FAULT_CHECKS, HttpSubject, Lab
from adapter_api.conformance.report import Report, Result, Status
from adapter_api.conformance.runner import blocked, judge
from adapter_api.conformance.subject import Adapter, MakeAdapter, Subject
from adapter_api.errors import RegistryError
from adapter_api.task import TaskRequest


class AdapterConformance:
    """Proves that an adapter keeps the contract.

        class TestAcmeEcho(AdapterConformance):
            @pytest.fixture
            def make_adapter(self):
                return lambda **options: registry.get("acme-echo", **options)

    The tests are ordinary functions that run asyncio themselves: no plugin of pytest is needed.
    A capability that the adapter lacks is reported, not failed; a check that cannot tell
    anything, as one before it failed, is skipped. The report is written to `report_folder`; after
    a part of the tests it says which part.

    Attributes:
        task: Fields of TaskRequest for every job, such as `{"model": "llama-3.1-8b"}`.
        failing: A job that must fail, if there is one.
        absent: Capabilities that are absent, with the reason.
        report_folder: Where the report goes, relative to pytest's root; None for no report.
    """

    task: ClassVar[dict[str, Any]] = {}
    failing: ClassVar[TaskRequest | None] = None
    absent: ClassVar[dict[str, str]] = {}
    report_folder: ClassVar[str | None] = "conformance-report"

    checks: ClassVar[tuple[Check, ...]] = CHECKS
    _results: ClassVar[dict[str, Result]] = {}
    _unusable: ClassVar[bool] = False
    _about: ClassVar[tuple[str, str]]
    _root: ClassVar[Path]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls._results, cls._unusable = {}, False

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each check."""
        if "check" in metafunc.fixturenames:
            metafunc.parametrize("check", self.checks, ids=[check.name for check in self.checks])

    @pytest.fixture
    def make_adapter(self) -> MakeAdapter:
        """A function that makes a new adapter, not started, from options of its config."""

        def missing(**options: Any) -> Adapter:
            raise Misuse(
                "write a fixture make_adapter that returns a function: "
                "`return lambda **options: registry.get('your-adapter', options)`"
            )

        return missing

    @pytest.fixture
    def subject(self, make_adapter: MakeAdapter) -> Subject:
        """The adapter under examination."""
        return Subject(make_adapter, **self._jobs())

    @classmethod
    def teardown_class(cls) -> None:
        """Write the report."""
        if cls._results and cls.report_folder is not None:
            missing = [check.name for check in cls.checks if check.name not in cls._results]
            report = Report(*cls._about, list(cls._results.values()), missing)
            report.write(cls._root / cls.report_folder)

    def test_contract(self, check: Check, subject: Subject, pytestconfig: pytest.Config) -> None:
        """The adapter keeps one rule of the contract."""
        cls = type(self)
        if cls._unusable:
            pytest.skip("nothing can be examined: the first failure says why")
        try:
            cls._root, cls._about = pytestconfig.rootpath, subject.about()
        except (RegistryError, Misuse) as error:  # each says itself what to do
            cls._unusable = True
            pytest.fail(str(error), pytrace=False)
        result = cls._result(check, subject)
        if result.status is Status.BLOCKED:
            pytest.skip(result.remark)
        if result.status is Status.FAILED:
            pytest.fail(f"{result.summary}\n{result.remark}", pytrace=False)

    @classmethod
    def _result(cls, check: Check, subject: Subject) -> Result:
        """The verdict, noted for the report whatever happens."""
        cls._results[check.name] = Result.of(check, Status.FAILED, "it was broken off")
        result = blocked(check, cls._results) or judge(check, subject)
        cls._results[check.name] = result
        return result

    @classmethod
    def _jobs(cls) -> dict[str, Any]:
        return {"task": cls.task, "failing": cls.failing, "absent": cls.absent}


class HttpAdapterConformance(AdapterConformance):
    """Proves the same of an adapter that takes a `base_url` and reads the completions protocol.

    Its engine is the shipped fault server: once well, and then with every fault it knows. What
    an adapter may do differently from openai-http, such as refuse an answer that is merely odd, is
    told in the report; what is an error for every adapter is a lie, a hang, a crash, a leak, or
    to insist on what was refused for good.
    """

    checks: ClassVar[tuple[Check, ...]] = (*CHECKS, *FAULT_CHECKS)

    _lab: ClassVar[Lab]

    @classmethod
    def setup_class(cls) -> None:
        """Start the fault server."""
        cls._lab = Lab().__enter__()

    @classmethod
    def teardown_class(cls) -> None:
        """Stop it, and write the report."""
        cls._lab.__exit__()
        super().teardown_class()

    @pytest.fixture
    def subject(self, make_adapter: MakeAdapter) -> Subject:
        """The adapter under examination, with the lab's engine."""
        return HttpSubject.in_lab(self._lab, make_adapter, **self._jobs())
