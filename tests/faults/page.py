"""The reference page of the scenarios: `python -m tests.faults.page` writes it."""

from pathlib import Path

from adapter_api.faults.scenario import LIMIT_S, LINGER_S, PROMPT_S, Scenario
from adapter_api.faults.scenarios import CHAPTERS, SCENARIOS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"

HEADER = f"""\
# Faults and their outcomes

What servers do wrong or in unusual ways, and the outcome in openai-http: {{count}} scenarios, each
a test.
This page is generated from them by `python -m tests.faults.page`.

The server is `FaultServer` in `adapter_api.faults`. `worker-adapters serve-faults`
[serves it](../how-to/fault-lab.md) to any client. The first segment of a URL's path names the
scenario: `server.url("fin-mid-event")` is a base URL. Both completions and chat are answered. The
server records every request, and when the client closed each connection.

The outcomes hold with a first-token limit and a stall limit of {LIMIT_S:g} s, up to 4 attempts with
short delays, at most {LINGER_S:g} s of waiting for what follows the finish_reason, and no deadline
unless it is named. Where no text is named, an `End` has all of it and an error comes before any.
The outcome is known at most {PROMPT_S:g} s after its cause, in virtual time. One request is sent
unless the number is named. In every case no connection stays in use, the next job works at once,
and a key that the server repeats does not show.

## The fault proxy

`FaultProxy` in `adapter_api.faults` damages the answers of any HTTP server, in any protocol. It
stands between a client and a server that works. An answer is a list of pieces: events of an event
stream, lines of NDJSON, or HTTP chunks.

```python
import asyncio

from adapter_api.faults import FaultProxy, proxy


async def main() -> None:
    async with FaultProxy("http://localhost:8000", proxy.cut(3, "end")) as front:
        print("give the client", front.base_url)


asyncio.run(main())
```

| damage | what the proxy does |
|---|---|
| `PASS` | nothing |
| `proxy.cut(after, "end")` | ends the body after some pieces, as if it were complete |
| `proxy.cut(after, "close")`, `"reset"` | closes or resets the connection after some pieces |
| `proxy.cut(..., inside=True)` | cuts inside the next piece |
| `proxy.stall(after)` | sends nothing more after some pieces; -1: not even the head |
| `proxy.delay(seconds)` | delays the head |
| `proxy.drip(count)` | sends bytes one by one, then a few at a time |
| `proxy.double(at)`, `proxy.swap(at)` | sends a piece twice, or after the next one |
| `proxy.report_error(at, rest=...)` | inserts an error event, with or without the rest |
| `proxy.refuse(status, html=...)` | sends an error or a page of HTML instead |
| `proxy.flood(at)` | repeats a piece without end |

`Damage(name, relay)` is one of your own: `relay` gets the answer and the wire to the client.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _row(scenario: Scenario) -> str:
    return f"| `{scenario.name}` | {_cell(scenario.summary)} | {_cell(str(scenario.expect))} |"


def render() -> str:
    """Return the page as Markdown."""
    parts = [HEADER.format(count=len(SCENARIOS))]
    for title, scenarios in CHAPTERS.items():
        rows = "\n".join(_row(scenario) for scenario in scenarios)
        parts.append(
            f"## {title}\n\n| scenario | the server | the adapter |\n|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
