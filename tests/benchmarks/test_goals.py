"""The benchmarks' own arithmetic: what is compared, and what is refused."""

from tests.benchmarks.goals import GOALS, Finding, Goal, judge, ratio
from tests.benchmarks.report import as_svg, line, shown

_SAME = "6 characters"


def _samples(
    ours: list[float], floor: list[float], said: str = _SAME
) -> dict[str, dict[str, list]]:
    return {
        "long": {
            "worker-adapters": [{"cpu_us": value, "said": said} for value in ours],
            "floor": [{"cpu_us": value, "said": _SAME} for value in floor],
        }
    }


def test_a_ratio_is_that_of_each_round() -> None:
    """Not of the medians: what disturbs a round disturbs both its sides."""
    values, refused = ratio(
        _samples([2.0, 30.0], [1.0, 10.0]), "long", "cpu_us", "worker-adapters", "floor"
    )
    assert values == (2.0, 3.0)
    assert refused == ""


def test_different_texts_are_refused() -> None:
    """They were not the same work; and CI fails."""
    (finding,) = judge(_samples([1.0], [1.0], said="5 characters"))
    assert "did not produce the same text" in finding.refused
    assert finding.fails_ci
    assert "REFUSED" in line(finding)


def test_a_failed_client_is_refused() -> None:
    """Its message is reported."""
    samples = _samples([1.0], [1.0])
    samples["long"]["floor"] = [{"failed": "OSError: gone"}]
    (finding,) = judge(samples)
    assert finding.refused == "floor failed: OSError: gone"


def test_unmeasured_goals_are_not_findings() -> None:
    """Peers may be missing."""
    assert judge({}) == []


def test_ci_fails_beyond_the_wide_margin_only() -> None:
    """A goal may be missed on a busy machine."""
    goal = Goal("x", 2.0, 6.0)
    assert not Finding(goal, (3.0,)).met
    assert not Finding(goal, (3.0,)).fails_ci
    assert Finding(goal, (7.0,)).fails_ci
    assert not Finding(Goal("x", 2.0), (7.0,)).fails_ci


def test_margins_are_wider_than_goals() -> None:
    """Of every goal that CI judges."""
    assert all(goal.ci_max is None or goal.ci_max > goal.most for goal in GOALS)


def test_small_ratios_are_shown_as_fractions() -> None:
    """1/48 says more than 0.02."""
    assert [shown(1 / 48), shown(2.2), shown(0.00012)] == ["1/48", "2.20", "0.00012"]


def test_the_plot_names_every_client() -> None:
    """A refused one too."""
    svg = as_svg(_samples([2.0], [1.0]))
    assert svg.startswith("<svg ")
    assert ">worker-adapters<" in svg
    assert ">2.00<" in svg
    assert ">refused<" in as_svg(_samples([2.0], [1.0], said="other"))
