"""The ratios that are compared, and their goals."""

import statistics
from collections.abc import Callable, Mapping, Sequence

import attrs

from tests.benchmarks.measure import Samples
from tests.benchmarks.scenarios import Result

Pair = tuple[Result, Result]

OURS, FLOOR, OPENAI = "worker-adapters", "floor", "openai"


@attrs.frozen
class Goal:
    """A number that is compared with a limit.

    Args:
        title: What it says.
        most: It should be at most this.
        ci_max: A short run on a busy machine fails beyond this; None: it is not judged.
        unit: Of the number; ratios have none.
    """

    title: str
    most: float
    ci_max: float | None = None
    unit: str = ""


@attrs.frozen
class RatioGoal(Goal):
    """Of one result of a scenario, the ratio of two clients in the same round.

    Args:
        scenario: The scenario's name.
        key: Which of its numbers.
        over: The client in the numerator.
        under: The one in the denominator.
    """

    scenario: str = attrs.field(kw_only=True)
    key: str = attrs.field(kw_only=True)
    over: str = attrs.field(kw_only=True, default=OURS)
    under: str = attrs.field(kw_only=True, default=FLOOR)


@attrs.frozen
class OwnGoal(Goal):
    """One result of a scenario, of the product alone."""

    scenario: str = attrs.field(kw_only=True)
    key: str = attrs.field(kw_only=True)


_long = {"scenario": "long", "key": "cpu_us"}
_paced = {"scenario": "paced", "key": "cpu_us"}
_latency = {"scenario": "latency", "key": "p99_us"}

GOALS: tuple[RatioGoal | OwnGoal, ...] = (
    RatioGoal("CPU per token, one long stream, to the floor", 2.2, 6.0, **_long),
    RatioGoal("CPU per token, one long stream, to openai", 1 / 30, 1 / 8, under=OPENAI, **_long),
    RatioGoal("CPU per token, paced streams, to the floor", 2.2, 6.0, **_paced),
    RatioGoal("CPU per token, paced streams, to openai", 1 / 6, 1 / 1.5, under=OPENAI, **_paced),
    RatioGoal("added latency p99, many paced streams, to the floor", 3.0, **_latency),
    RatioGoal(
        "memory per open stream, to aiohttp", 1.5, scenario="memory", key="bytes", under="aiohttp"
    ),
    RatioGoal("first token, warm, p50, to the floor", 5.0, 15.0, scenario="first", key="p50_us"),
    RatioGoal(
        "first token, warm, p50, to httpx-aiohttp",
        1.0,
        scenario="first",
        key="p50_us",
        under="httpx-aiohttp",
    ),
    RatioGoal(
        "jobs of one token a second, openai to ours",
        1 / 5,
        1 / 1.5,
        scenario="jobs",
        key="per_s",
        over=OPENAI,
        under=OURS,
    ),
    RatioGoal(
        "CPU per row of a bulk run, to openai behind a semaphore",
        1 / 5,
        1 / 1.5,
        scenario="rows",
        key="cpu_us",
        under=OPENAI,
    ),
    OwnGoal(
        "CPU per request, burst of 500 to burst of 10", 1.3, 3.0, scenario="burst", key="ratio"
    ),
    OwnGoal(
        "growth over many requests", 5.0, 20.0, unit=" MB", scenario="growth", key="mb"
    ),
    OwnGoal(
        "sent to a reader that hardly reads", 1024.0, unit=" kB", scenario="slow", key="sent_kb"
    ),
    OwnGoal("CPU of a reader that hardly reads", 0.05, scenario="slow", key="cpu_share"),
)  # fmt: skip

STARTUP_GOALS = {
    "import": Goal("import registry, adapter_api, to import httpx", 1.0, 1.0),
    "first use": Goal("first use of openai-http, to the import of what it needs", 1.3, 2.0),
    "get": Goal("registry.get, to a request of 100 tokens in a second", 0.01),
    "names fresh": Goal("registry.names() to entry_points(), fresh process", 1.0, 1.5),
    "names again": Goal("registry.names() to entry_points(), once more", 1.0, 1.5),
}


@attrs.frozen
class Finding:
    """A goal and what was seen."""

    goal: Goal
    values: tuple[float, ...]
    refused: str = ""

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        """Return whether the median is within the goal."""
        return bool(self.values) and self.median <= self.goal.most

    @property
    def fails_ci(self) -> bool:
        """Return whether CI must fail: a refusal, or a median beyond the wide margin."""
        if self.refused:
            return True
        limit = self.goal.ci_max
        return limit is not None and bool(self.values) and self.median > limit


def _numbers(results: Sequence[Result], key: str) -> tuple[list[float], str]:
    """The numbers, and why there are none."""
    failures = [result["failed"] for result in results if "failed" in result]
    if failures:
        return [], failures[0]
    return [float(result[key]) for result in results], ""


def ratio(
    samples: Samples, scenario: str, key: str, over: str, under: str
) -> tuple[tuple[float, ...], str]:
    """The ratio of each round; or none, and why it is refused.

    Two clients that did not produce the same text did not do the same work.
    """
    found: Mapping[str, Sequence[Result]] = samples.get(scenario, {})
    if over not in found or under not in found:
        return (), ""
    left, why_left = _numbers(found[over], key)
    right, why_right = _numbers(found[under], key)
    if why_left or why_right:
        return (), f"{over if why_left else under} failed: {why_left or why_right}"
    said = {result["said"] for name in (over, under) for result in found[name]}
    if len(said) > 1:
        return (), f"{over} and {under} did not produce the same text: {sorted(said)}"
    return tuple(a / b for a, b in zip(left, right, strict=False) if b), ""


def judge(samples: Samples) -> list[Finding]:
    """The findings for each measured goal."""
    findings = []
    for goal in GOALS:
        if isinstance(goal, RatioGoal):
            values, refused = ratio(samples, goal.scenario, goal.key, goal.over, goal.under)
        else:
            numbers, refused = _numbers(samples.get(goal.scenario, {}).get(OURS, []), goal.key)
            values = tuple(numbers)
        if values or refused:
            findings.append(Finding(goal, values, refused))
    return findings


def judge_startup(
    imports: Mapping[str, Sequence[float]],
    names: Mapping[str, Sequence[tuple[float, float]]],
    gets: Sequence[float],
) -> list[Finding]:
    """The same of startup.py's measurements."""
    quotients: dict[str, Callable[[], tuple[float, ...]]] = {
        "import": lambda: _quotients(imports["ours"], imports["httpx"]),
        "first use": lambda: _quotients(imports["first use"], imports["dependencies"]),
        "get": lambda: tuple(seconds / 1.0 for seconds in gets),
        "names fresh": lambda: tuple(a / b for a, b in names["fresh"]),
        "names again": lambda: tuple(a / b for a, b in names["again"]),
    }
    return [Finding(STARTUP_GOALS[name], values()) for name, values in quotients.items()]


def _quotients(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    return tuple(a / b for a, b in zip(over, under, strict=True))
