"""The kit as a pytest class: subclass it, write one fixture, run pytest."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from adapter_api.conformance.check import Check
from adapter_api.conformance.checks import CHECKS
from adapter_api.conformance.examination import Examination
from adapter_api.conformance.jobs import Adapter
from adapter_api.conformance.report import Result
from adapter_api.conformance.subject import MakeAdapter
from adapter_api.conformance.verdict import Misuse, Status
from adapter_api.errors import RegistryError
from adapter_api.task import TaskRequest

_SKIPPED = (Status.ABSENT, Status.BLOCKED, Status.NOT_EXAMINED)


class AdapterConformance:
    """A test class that proves that an adapter keeps the contract.

        class TestAcmeEcho(AdapterConformance):
            @pytest.fixture
            def make_adapter(self):
                return lambda **options: registry.get("acme-echo", options)

    The tests are ordinary functions that run asyncio themselves: no pytest plugin is needed.
    An adapter that takes a `base_url` is examined in the lab, as on the command line. A test
    passes only if its rule was examined and holds. Otherwise it fails, or it is skipped with the
    reason. The report is written to `report_folder`.

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

    _examination: ClassVar[Examination | None] = None
    _unusable: ClassVar[bool] = False
    _root: ClassVar[Path]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls._examination, cls._unusable = None, False

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each check."""
        if "check" in metafunc.fixturenames:
            metafunc.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])

    @pytest.fixture
    def make_adapter(self) -> MakeAdapter:
        """Return a function that makes a new adapter, not started, from options of its config."""

        def missing(**options: Any) -> Adapter:
            raise Misuse(
                "write a fixture make_adapter that returns a function: "
                "`return lambda **options: registry.get('your-adapter', options)`"
            )

        return missing

    @pytest.fixture
    def engine_url(self) -> str | None:
        """Return the base URL of an engine that works, None for the lab's.

        An HTTP adapter that speaks another protocol than completions needs one: a real engine, or
        a script (`adapter_api.faults.scripted_engine`). It has to run during all the tests.
        """
        return None

    @classmethod
    def teardown_class(cls) -> None:
        """Write the report, and stop the lab."""
        examination = cls._examination
        if examination is None:
            return
        cls._examination = None
        examination.__exit__()
        if examination.results and cls.report_folder is not None:
            examination.report().write(cls._root / cls.report_folder)

    def test_contract(
        self,
        check: Check,
        make_adapter: MakeAdapter,
        engine_url: str | None,
        pytestconfig: pytest.Config,
    ) -> None:
        """The adapter keeps one rule of the contract."""
        result = type(self)._judge(check, make_adapter, engine_url, pytestconfig.rootpath)
        if result.status in _SKIPPED:
            pytest.skip(f"{result.status.replace('_', ' ')}: {result.remark}")
        if result.status is Status.FAILED:
            pytest.fail(f"{result.summary}\n{result.remark}", pytrace=False)

    @classmethod
    def _judge(cls, check: Check, make: MakeAdapter, engine_url: str | None, root: Path) -> Result:
        """Return the verdict, and record it for the report even if the run is interrupted."""
        if cls._unusable:
            pytest.skip("nothing can be examined: the first failure says why")
        begun = cls._begun(make, engine_url)
        if isinstance(begun, str):
            cls._unusable = True
            pytest.fail(begun, pytrace=False)
        cls._examination = begun
        cls._root = root
        interrupted = Result.of(check, Status.FAILED, "it was interrupted")
        begun.results[check.name] = interrupted
        return begun.run_check(check)

    @classmethod
    def _begun(cls, make: MakeAdapter, engine_url: str | None) -> Examination | str:
        """Return the examination, or why it cannot begin: pytest would show an error twice."""
        if cls._examination is not None:
            return cls._examination
        try:
            return Examination(
                make,
                engine_url=engine_url,
                task=cls.task,
                failing=cls.failing,
                absent=cls.absent,
            ).__enter__()
        except (RegistryError, Misuse) as error:  # each message says what to do
            return str(error)
