"""Findings as text, JSON and a plot."""

import math
import statistics
from collections.abc import Sequence
from html import escape
from typing import Any

from tests.benchmarks.goals import FLOOR, Finding, ratio
from tests.benchmarks.measure import Samples

PLOTTED = (
    ("long", "cpu_us", "CPU per token, one long stream"),
    ("paced", "cpu_us", "CPU per token, paced streams"),
    ("latency", "p99_us", "added latency p99, many paced streams"),
    ("first", "p50_us", "first token, warm connection"),
    ("jobs", "cpu_us", "CPU per job of one token"),
)


def shown(value: float) -> str:
    """A ratio as people say it: 1/48 rather than 0.0208."""
    if 0 < value < 0.1:
        return f"1/{1 / value:.0f}" if value > 0.001 else f"{value:.5f}"
    return f"{value:.2f}"


def line(finding: Finding) -> str:
    """One finding on one line."""
    goal = finding.goal
    if finding.refused:
        return f"{goal.title:56} REFUSED: {finding.refused}"
    spread = f"{shown(min(finding.values))} to {shown(max(finding.values))}"
    verdict = "" if finding.met else "  MISSED"
    return (
        f"{goal.title:56} {shown(finding.median) + goal.unit:>9}  ({spread})"
        f"  at most {shown(goal.most)}{verdict}"
    )


def table(samples: Samples) -> list[str]:
    """For each scenario in PLOTTED, every client's ratio to the floor."""
    lines = []
    for scenario, key, title in PLOTTED:
        ratios = _to_floor(samples, scenario, key)
        if ratios:
            lines.append(f"\n{title}, to the floor's:")
            lines += [f"  {name:20} {text}" for name, _, text in ratios]
    return lines


def _to_floor(samples: Samples, scenario: str, key: str) -> list[tuple[str, float, str]]:
    rows = []
    for name in samples.get(scenario, {}):
        values, refused = ratio(samples, scenario, key, name, FLOOR)
        if refused:
            rows.append((name, math.nan, f"refused: {refused}"))
        elif values:
            median = statistics.median(values)
            spread = f"{min(values):.2f} to {max(values):.2f}"
            rows.append((name, median, f"{median:8.2f}  ({spread})"))
    return rows


def as_json(findings: Sequence[Finding], samples: Samples, startup: Any, about: Any) -> Any:
    """Everything: the findings, and what they come from."""
    return {
        "about": about,
        "findings": [
            {
                "title": finding.goal.title,
                "median": finding.median if finding.values else None,
                "values": finding.values,
                "most": finding.goal.most,
                "met": finding.met,
                "refused": finding.refused,
            }
            for finding in findings
        ],
        "samples": samples,
        "startup": startup,
    }


_WIDTH, _LABEL, _ROW, _HEAD = 760, 170, 18, 30
_COLOURS = {"worker-adapters": "#1b7f4d", FLOOR: "#888888"}


def as_svg(samples: Samples) -> str:
    """Bars of every client's ratio to the floor, on a logarithmic scale."""
    parts: list[str] = []
    y = 0
    charts = [(title, _to_floor(samples, scenario, key)) for scenario, key, title in PLOTTED]
    values = [value for _, rows in charts for _, value, _ in rows if value > 0]
    decades = max(1, math.ceil(math.log10(max(values, default=10.0))))
    per_decade = (_WIDTH - _LABEL - 60) / decades
    for title, rows in charts:
        if not rows:
            continue
        y += _HEAD
        parts.append(f'<text x="0" y="{y - 8}" font-weight="bold">{escape(title)}</text>')
        for name, value, _ in rows:
            parts += _bar(y, name, value, per_decade)
            y += _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 30}" '
        f'viewBox="0 -4 {_WIDTH} {y + 30}" font-family="sans-serif" font-size="12">\n'
        + "\n".join(parts)
        + f'\n<text x="0" y="{y + 18}">Times the floor, logarithmic; shorter is better.</text>\n'
        "</svg>\n"
    )


def _bar(y: int, name: str, value: float, per_decade: float) -> list[str]:
    label = f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
    if not value > 0:
        return [label, f'<text x="{_LABEL}" y="{y + 12}">refused</text>']
    width = max(2.0, math.log10(max(value, 1.0)) * per_decade)
    colour = _COLOURS.get(name, "#4a6fa5")
    return [
        label,
        f'<rect x="{_LABEL}" y="{y + 2}" width="{width:.1f}" height="12" fill="{colour}"/>',
        f'<text x="{_LABEL + width + 5:.1f}" y="{y + 12}">{value:.2f}</text>',
    ]
