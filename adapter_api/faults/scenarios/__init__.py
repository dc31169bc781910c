"""Every scenario, by chapter and by name."""

from adapter_api.faults.scenarios import (
    bodies,
    breaks,
    connections,
    endings,
    failures,
    field,
    hostile,
    oddities,
    refusals,
    retries,
    shapes,
    waits,
)

CHAPTERS = {
    "Whole answers in unusual forms": (*oddities.SCENARIOS, *bodies.SCENARIOS),
    "Answers that end too early": breaks.SCENARIOS,
    "Failures inside a 200": failures.SCENARIOS,
    "Silence and delay": waits.SCENARIOS,
    "Nonsense and malice": hostile.SCENARIOS,
    "Refusals": refusals.SCENARIOS,
    "Retries": retries.SCENARIOS,
    "As reported by users": field.SCENARIOS,
    "Endings and channels, as reported": (*endings.SCENARIOS, *shapes.SCENARIOS),
    "Connections": connections.SCENARIOS,
}

SCENARIOS = {scenario.name: scenario for scenarios in CHAPTERS.values() for scenario in scenarios}

__all__ = ["CHAPTERS", "SCENARIOS"]
