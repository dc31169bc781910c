"""Every check of the kit can fail, and only for its own reason."""

import configparser
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from adapter_api import TaskRequest
from adapter_api.conformance import CHECKS, Status, Subject, judge, judge_all
from adapter_api.conformance.lab import UNDERSTOOD
from adapter_api.conformance.report import failures
from tests.adapter_api.conformance.examine import HTTP_CHECKS, WRONG, examined

SubjectOf = Callable[..., Subject]


def _offered() -> dict[str, str]:
    """The sample adapters by name, with the modules they are in."""
    parser = configparser.ConfigParser()
    parser.read(next(WRONG.glob("*.dist-info")) / "entry_points.txt")
    return {name: target.partition(":")[0] for name, target in parser["worker_adapters"].items()}


def _violated(name: str) -> str:
    """The check that a wrong adapter fails; behind a dot its name has the way in which."""
    return name.removeprefix("wrong-").partition(".")[0]


OFFERED = _offered()
WRONG_ONES = [name for name in OFFERED if name.startswith("wrong-")]


HTTP_ONES = [name for name in OFFERED if OFFERED[name] == "wrong_http"]
SLOW_ONES = [*HTTP_ONES, *(name for name in WRONG_ONES if _violated(name) == "event-loop")]
AT_ONCE = 3


@pytest.fixture(scope="module")
def verdicts() -> Iterator[dict[str, "Future[list[str]]"]]:
    """Of those whose examination takes long: some at a time, and when nothing is examined here,
    for what comes and goes in this process is looked at."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            name: pool.submit(examined, name, http=OFFERED[name] == "wrong_http")
            for name in SLOW_ONES
        }
        pool.shutdown(wait=False, cancel_futures=True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in WRONG_ONES if name not in SLOW_ONES])
def test_a_wrong_adapter_fails_the_check_it_violates_and_no_other(
    name: str, subject_of: SubjectOf
) -> None:
    """An adapter with one mistake is told of that mistake only (ADAPT-3000)."""
    results = judge_all(CHECKS, subject_of(name))
    assert failures(results) == [_violated(name)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", SLOW_ONES)
def test_so_does_one_whose_examination_takes_long(
    name: str, verdicts: dict[str, "Future[list[str]]"]
) -> None:
    """The same, of what the lab's engines find out, too (ORCH-3057, WA-INT-3002, HTU-1003)."""
    expected = [] if name.startswith("right-") else [_violated(name)]
    assert verdicts[name].result(110) == expected


def test_every_check_has_an_adapter_that_fails_it() -> None:
    """No check of the kit is one that cannot fail."""
    assert {check.name for check in HTTP_CHECKS} - {UNDERSTOOD} == set(map(_violated, WRONG_ONES))


def test_the_right_adapter_passes_every_check(subject_of: SubjectOf) -> None:
    """What the wrong ones are made from keeps the whole contract (ADAPT-3000, ADAPT-3001)."""
    results = judge_all(CHECKS, subject_of("right"))
    assert {result.check: result.remark for result in results if result.status != "passed"} == {}


def test_an_iterator_that_cannot_be_closed_is_no_mistake(subject_of: SubjectOf) -> None:
    """The contract asks for an AsyncIterator; only closing it cannot be examined."""
    results = judge_all(CHECKS, subject_of("right-iterator"))
    assert [result.check for result in results if result.status != "passed"] == ["closing"]


def test_needs_name_earlier_checks() -> None:
    """A check comes after those it needs, so that it can be blocked by them."""
    seen: set[str] = set()
    for check in CHECKS:
        assert set(check.needs) <= seen, check.name
        seen.add(check.name)


def test_every_check_says_its_rule_and_requirement() -> None:
    """A report explains itself."""
    for check in CHECKS:
        assert check.summary.endswith("."), check.name
        assert check.requirement, check.name


def test_declared_absence_is_reported_not_failed(subject_of: SubjectOf) -> None:
    """A capability that the subject or the adapter declares absent is no failure."""
    subject = subject_of("wrong-repeatable", absent={"seed": "it throws dice"})
    results = {result.check: result for result in judge_all(CHECKS, subject)}
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
    assert judge(check, subject).status is Status.ABSENT


@pytest.mark.parametrize(
    ("absent", "remark"),
    [(["seed"], "no mapping"), ({"seed": ""}, "no reason"), ({"sed": "x"}, "names are")],
)
def test_a_malformed_declaration_is_explained(
    absent: object, remark: str, subject_of: SubjectOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ABSENT maps known names to reasons."""
    subject = subject_of("right")
    monkeypatch.setattr(type(subject.make().adapter), "ABSENT", absent, raising=False)
    [check] = [check for check in CHECKS if check.name == "declarations"]
    result = judge(check, subject)
    assert result.status is Status.FAILED
    assert remark in result.remark


def test_a_failing_job_that_is_answered_fails_the_check(subject_of: SubjectOf) -> None:
    """The author may know a job that must fail; an answer to it is a violation."""
    subject = subject_of("right", failing=TaskRequest(prompt="fine"))
    assert failures(judge_all(CHECKS, subject)) == ["failing-jobs"]


def test_an_engine_that_is_down_blocks_what_depends_on_it(subject_of: SubjectOf) -> None:
    """Without one good answer nothing is judged by guessing; the first check says what happened."""
    subject = subject_of("mock", {"error_code": "POOL_UNAVAILABLE"})
    results = {result.check: result for result in judge_all(CHECKS, subject)}
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
    result = judge(CHECKS[0], subject_of("mock", options))
    assert result.status is Status.FAILED
    assert "did not end in time" in result.remark


def test_an_answer_without_a_token_proves_nothing(subject_of: SubjectOf) -> None:
    """Checks that look at Tokens must not pass because there are none."""
    result = judge(CHECKS[0], subject_of("mock", {"tokens": []}))
    assert result.status is Status.FAILED
    assert "no Token" in result.remark
