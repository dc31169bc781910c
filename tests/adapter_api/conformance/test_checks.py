"""Every check of the kit fails the adapter that breaks its rule, and no other."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from adapter_api import TaskRequest
from adapter_api.conformance import CHECKS, Report, Result, Status, Subject, examine, run_check
from adapter_api.conformance.checks import FAULTS, GENERAL, down
from adapter_api.conformance.report import failures
from adapter_api.conformance.runner import blocked
from adapter_api.faults import scripted_engine
from registry import Registry
from tests.adapter_api.conformance.engines import chat
from tests.adapter_api.conformance.examine import (
    ELSEWHERE_LIMIT_S,
    WRONG,
    examined,
    failures_elsewhere,
    offered,
)

SubjectOf = Callable[..., Subject]

OFFERED = offered()
WRONG_ONES = [name for name in OFFERED if name.startswith("wrong-")]
RIGHT_ONES = [name for name in OFFERED if name.startswith("right")]
AT_ONCE = 3
"""Examinations mostly wait for limits, so that three keep two cores half busy."""

HTTP = ("wrong_http", "wrong_messages", "wrong_lines")
HTTP_ONES = [name for name in OFFERED if OFFERED[name] in HTTP and name.startswith(("wr", "ri"))]
SAMPLED = ("wrong-proxy-error-events.lines", "wrong-proxy-silence.ends", "wrong-lab-props")
LONG = ("wrong-slow-reader.small", "wrong-leaks", "wrong-cancel", "wrong-cancel-anywhere")
QUICK_ONES = [
    name for name in WRONG_ONES if name in SAMPLED or (name not in HTTP_ONES and name not in LONG)
]


def _violated(name: str) -> str:
    """Return the check that a wrong adapter fails; a dot in its name separates the variant."""
    return name.removeprefix("wrong-").partition(".")[0]


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the sample adapters."""
    monkeypatch.syspath_prepend(WRONG)
    monkeypatch.setattr(down, "DOWN_LIMIT_S", 2.0)


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("name", QUICK_ONES)
def test_a_wrong_adapter_fails_the_check_it_violates(name: str) -> None:
    """An adapter with one mistake fails that check, and none that the check needs (ADAPT-3000)."""
    report = examined(name, _violated(name))
    assert failures(report.results) == [_violated(name)]


@pytest.fixture(scope="module")
def elsewhere(request: pytest.FixtureRequest) -> Iterator[dict[str, "Future[list[str]]"]]:
    """Return what each selected adapter fails, examined in other processes, some at a time."""
    tests = " ".join(item.name for item in request.session.items)
    selected = [name for name in HTTP_ONES if f"[{name}]" in tests]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(failures_elsewhere, name) for name in selected}
        pool.shutdown(wait=False, cancel_futures=True)


@pytest.mark.exhaustive
@pytest.mark.timeout(2 * ELSEWHERE_LIMIT_S)
@pytest.mark.parametrize("name", HTTP_ONES)
def test_an_http_adapter_fails_no_other_check(
    name: str, elsewhere: dict[str, "Future[list[str]]"]
) -> None:
    """An adapter with one mistake fails one check of all, and a right one none."""
    expected = [] if name in RIGHT_ONES else [_violated(name)]
    assert elsewhere[name].result() == expected


@pytest.mark.exhaustive
@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("name", [name for name in OFFERED if OFFERED[name] not in HTTP])
def test_an_adapter_fails_no_other_check(name: str) -> None:
    """The same of those without an engine behind HTTP."""
    expected = [] if name in RIGHT_ONES else [_violated(name)]
    assert failures(examined(name).results) == expected


def test_every_check_has_an_adapter_that_fails_it() -> None:
    """No check of the kit is one that cannot fail. Of the chapters of faults two stand for all."""
    chapters = {check.name for check in FAULTS} - {"faults-refusals", "faults-connections"}
    assert {check.name for check in CHECKS} - chapters == set(map(_violated, WRONG_ONES))


@pytest.mark.exhaustive
@pytest.mark.usefixtures("samples")
def test_an_engine_at_an_address_of_another_name_is_not_examined() -> None:
    """The kit cannot put its servers there, and does not say that the adapter conforms."""
    registry = Registry()
    with scripted_engine(chat) as url:
        report = examine(lambda **more: registry.get("elsewhere", {"endpoint": url, **more}))
    assert failures(report.results) == []
    assert report.conforms is None
    assert {"proxied", "proxy-cuts", "lab-health"} <= set(report.not_examined)
    [remark] = {r.remark for r in report.results if r.check == "proxy-cuts"}
    assert "endpoint" in remark or "needs proxied" in remark


@pytest.mark.exhaustive
@pytest.mark.usefixtures("samples")
def test_another_protocol_is_examined_through_the_proxy() -> None:
    """An adapter with an engine of its own is examined as a whole; the chapters are absent."""
    report = examined("right-messages", "proxy-cuts", "faults-refusals", "lab-health")
    absent = {r.check for r in report.results if r.status is Status.ABSENT}
    assert absent == {"faults-understood", "faults-refusals"}
    assert failures(report.results) == []


@pytest.mark.usefixtures("samples")
def test_another_protocol_without_an_engine_is_not_examined() -> None:
    """The report is incomplete, and names what the author has to give (WA-INT-3001)."""
    registry = Registry()
    report: Report = examine(lambda **options: registry.get("right-messages", options))
    verdicts = {r.check: r for r in report.results}
    assert report.conforms is None
    assert {"answers", "proxy-cuts", "faults-understood", "cancel"} <= set(report.not_examined)
    assert "POST /v1/messages" in verdicts["answers"].remark
    assert "engine_url" in verdicts["answers"].remark
    assert verdicts["lab-health"].status is Status.PASSED


def _judge_all(subject: Subject) -> list[Result]:
    """Run the general checks."""
    results: dict[str, Result] = {}
    for check in GENERAL:
        results[check.name] = blocked(check, results) or run_check(check, subject)
    return list(results.values())


def test_the_right_adapter_passes_every_check(subject_of: SubjectOf) -> None:
    """The base of the wrong adapters keeps the whole contract (ADAPT-3000, ADAPT-3001)."""
    results = _judge_all(subject_of("right"))
    assert {result.check: result.remark for result in results if result.status != "passed"} == {}


def test_an_iterator_that_cannot_be_closed_is_valid(subject_of: SubjectOf) -> None:
    """The contract asks for an AsyncIterator; only closing it cannot be examined."""
    [closing] = [check for check in CHECKS if check.name == "closing"]
    assert run_check(closing, subject_of("right-iterator")).status is Status.ABSENT


def test_needs_name_earlier_checks() -> None:
    """A check comes after those it needs, so that it can be blocked by them."""
    seen: set[str] = set()
    for check in CHECKS:
        assert set(check.needs) <= seen, check.name
        seen.add(check.name)


def test_every_check_names_its_rule_and_requirement() -> None:
    """A report explains itself."""
    for check in CHECKS:
        assert check.summary.endswith("."), check.name
        assert check.requirement, check.name


def test_declared_absence_is_reported_not_failed(subject_of: SubjectOf) -> None:
    """A capability that the subject or the adapter declares absent is not a failure."""
    subject = subject_of("wrong-repeatable", absent={"seed": "it throws dice"})
    results = {result.check: result for result in _judge_all(subject)}
    assert results["repeatable"].status is Status.ABSENT
    assert results["repeatable"].remark == "it throws dice"
    assert results["concurrent"].status is Status.PASSED
    assert failures(results.values()) == []


def test_an_adapter_declares_what_it_lacks_itself(
    subject_of: SubjectOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ABSENT in the class is enough; the reason is in the report."""
    subject = subject_of("wrong-messages")
    cls = type(subject.make().adapter)
    monkeypatch.setattr(cls, "ABSENT", {"messages": "it completes texts"}, raising=False)
    [check] = [check for check in CHECKS if check.name == "messages"]
    assert run_check(check, subject).status is Status.ABSENT


@pytest.mark.parametrize(
    ("absent", "remark"),
    [(["seed"], "not a mapping"), ({"seed": ""}, "no reason"), ({"sed": "x"}, "names are")],
)
def test_a_malformed_declaration_is_explained(
    absent: object, remark: str, subject_of: SubjectOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ABSENT maps known names to reasons."""
    subject = subject_of("right")
    monkeypatch.setattr(type(subject.make().adapter), "ABSENT", absent, raising=False)
    [check] = [check for check in CHECKS if check.name == "declarations"]
    result = run_check(check, subject)
    assert result.status is Status.FAILED
    assert remark in result.remark


def test_a_failing_job_that_is_answered_fails_the_check(subject_of: SubjectOf) -> None:
    """The author may know a job that must fail; an answer to it is a violation."""
    subject = subject_of("right", failing=TaskRequest(prompt="fine"))
    [check] = [check for check in CHECKS if check.name == "failing-jobs"]
    assert run_check(check, subject).status is Status.FAILED


def test_an_engine_that_is_down_blocks_what_depends_on_it(subject_of: SubjectOf) -> None:
    """Without one good answer nothing is judged by guessing; the first check says what happened."""
    subject = subject_of("mock", {"error_code": "POOL_UNAVAILABLE"})
    results = {result.check: result for result in _judge_all(subject)}
    assert failures(results.values()) == ["answers"]
    assert "POOL_UNAVAILABLE" in results["answers"].remark
    assert results["cancel"].status is Status.BLOCKED
    assert results["health"].status is Status.PASSED


def test_an_answer_that_never_ends_is_found(
    subject_of: SubjectOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kit's own limit ends a job that its adapter does not."""
    monkeypatch.setattr("adapter_api.conformance.subject.ANSWER_LIMIT_S", 0.2)
    options = {"stall_after": 2, "stall_timeout_s": None}
    result = run_check(CHECKS[0], subject_of("mock", options))
    assert result.status is Status.FAILED
    assert "did not end in time" in result.remark


def test_an_answer_without_a_token_proves_nothing(subject_of: SubjectOf) -> None:
    """Checks that look at Tokens must not pass because there are none."""
    result = run_check(CHECKS[0], subject_of("mock", {"tokens": []}))
    assert result.status is Status.FAILED
    assert "no Token" in result.remark
