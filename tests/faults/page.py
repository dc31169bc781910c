"""The reference page of the scenarios: `python -m tests.faults.page` writes it."""

from pathlib import Path

from adapter_api.faults.scenario import LIMIT_S, LINGER_S, PROMPT_S, Scenario
from adapter_api.faults.scenarios import CHAPTERS, SCENARIOS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"

HEADER = f"""\
# Faults and their outcomes

What servers do wrong, or merely oddly, and what openai-http makes of it: {{count}} scenarios, each
a test. This page is generated from them by `python -m tests.faults.page`.

The server is `FaultServer` in `adapter_api.faults`; `worker-adapters serve-faults`
[serves it](../how-to/fault-lab.md) to anybody. The first segment of a URL's path names the
scenario, so any client can be pointed at one: `server.url("fin-mid-event")` is a base URL.
Completions and chat are both answered. It records every request and when the client closed each
connection. It knows nothing of this project.

The outcomes hold with a first-token limit and a stall limit of {LIMIT_S:g} s, up to 4 attempts with
short delays, at most {LINGER_S:g} s of waiting for what follows the finish_reason, and no deadline
unless it is named. Where no text is named, an `End` has all of it and an error comes before any.
The outcome is known at most {PROMPT_S:g} s after its cause. One request is sent unless the number
is named. In every case no connection stays in use, the next job works at once, and a key that the
server repeats shows nowhere.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _row(scenario: Scenario) -> str:
    return f"| `{scenario.name}` | {_cell(scenario.summary)} | {_cell(str(scenario.expect))} |"


def render() -> str:
    """The page as Markdown."""
    parts = [HEADER.format(count=len(SCENARIOS))]
    for title, scenarios in CHAPTERS.items():
        rows = "\n".join(_row(scenario) for scenario in scenarios)
        parts.append(
            f"## {title}\n\n| scenario | the server | the adapter |\n|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
