"""The reference pages say what the code says."""

import inspect
import re
from pathlib import Path

import pytest

import registry
from adapter_api import (
    CODES,
    AdapterNotice,
    AttemptNotice,
    BreakerNotice,
    End,
    EngineProps,
    ErrorCode,
    HealthNotice,
    HealthStatus,
    InvalidToolCall,
    JobNotice,
    Message,
    Metrics,
    ObserverHooks,
    Reasoning,
    Refusal,
    ReplicaNotice,
    ScoredToken,
    Started,
    TaskRequest,
    Token,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    WorkerError,
)
from adapter_api.conformance import CAPABILITIES, CHECKS
from adapter_api.hookspecs import ADAPTER_HOOKS
from adapters.http_util import error_from_response, read_recording
from adapters.http_util.retry import REPEATABLE_STATUSES
from registry.cli.entry import run

EVENTS = "Started | Token | MetricsFrame | End | Error"
REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_is_listed_with_its_class_and_whether_to_retry(code: ErrorCode) -> None:
    """docs/reference/errors.md has one row for each code."""
    error = WorkerError.of(code, "x")
    retriable = "yes" if error.retriable else "no"
    status = CODES[code].http_status
    row = rf"\| {type(error).__name__} \| {code} \| {retriable} \| {status} \|"
    assert len(re.findall(row, page("errors"))) == 1


def test_the_statuses_of_a_server_have_the_codes_that_the_page_lists() -> None:
    """Each status that a row names, without a body."""
    table = page("errors").partition("| status | code |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (.+) \| (\w+) \|$", table, re.MULTILINE)
    named = [(int(status), code) for text, code in rows for status in re.findall(r"\d{3}", text)]
    assert len(named) > 30
    for status, code in named:
        found = str(error_from_response(status, {}, b"").code)
        assert found == code or (status == 503 and code == "ADMISSION_REJECT")


def test_the_statuses_that_are_repeated_are_listed() -> None:
    """The page's list is the one that the retry loop goes by."""
    line = page("errors").partition("pooled connection")[2].partition("unless")[0]
    assert set(map(int, re.findall(r"\b\d{3}\b", line))) == REPEATABLE_STATUSES


@pytest.mark.parametrize("adapter", ["openai-http", "mock", "replay"])
def test_every_option_is_listed(adapter: str) -> None:
    """Each config field has a row, and no row is for a field that is gone."""
    fields = {field.name for field in registry.describe(adapter).config_fields}
    options = page(adapter).partition("| option |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| ([^|]+) \|", options, re.MULTILINE)
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert listed == fields


def test_every_hook_is_listed_with_its_signature() -> None:
    """docs/reference/contract.md shows the hooks as the code has them."""
    text = page("contract")
    hooks = [
        (name, member)
        for protocol in (*ADAPTER_HOOKS, ObserverHooks)
        for name, member in vars(protocol).items()
        if hasattr(member, "worker_adapters_spec")
    ]
    assert len(hooks) == 19
    for name, member in hooks:
        signature = str(inspect.signature(member)).replace("'", "")
        signature = re.sub(r"\b(?:[a-z_]+\.)+(\w+)", r"\1", signature)
        signature = signature.replace(EVENTS, "TokenEvent")
        prefix = "async " if inspect.iscoroutinefunction(member) else ""
        assert f"`{prefix}{name}{signature}`" in text


TASKS = [TaskRequest, Message, Tool, ToolCall, InvalidToolCall]
ANSWERS = [
    Started,
    Token,
    Reasoning,
    Refusal,
    ToolCallDelta,
    ScoredToken,
    TokenLogprob,
    End,
    Metrics,
]
NOTICES = [AdapterNotice, JobNotice, AttemptNotice, HealthNotice, ReplicaNotice, BreakerNotice]


@pytest.mark.parametrize("cls", [*TASKS, *ANSWERS, HealthStatus, EngineProps, *NOTICES])
def test_every_field_of_the_contract_is_named(cls: type) -> None:
    """Nothing a caller can read or set is missing on the page."""
    for name in inspect.get_annotations(cls):
        assert re.search(rf"\b{name}\b", page("contract")), name


def test_every_command_and_option_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/reference/cli.md names what `--help` names."""
    text = page("cli")

    def shown(*arguments: str) -> str:
        assert run([*arguments, "--help"]) == 0
        return capsys.readouterr().out

    commands = re.findall(r"^  ([\w-]+)  ", shown().partition("Commands:")[2], re.MULTILINE)
    assert len(commands) >= 6
    for name in commands:
        assert f"| `{name}" in text
        for option in re.findall(r"^  (--[\w-]+)", shown(name), re.MULTILINE):
            assert option == "--help" or f"`{option}" in text


def test_every_check_of_the_kit_is_listed() -> None:
    """docs/reference/conformance.md has the checks' own rules, in their order."""
    rows = [f"| `{check.name}` | {check.summary} | {check.requirement} |" for check in CHECKS]
    text = page("conformance")
    assert [line for line in text.splitlines() if line in rows] == rows
    assert text.count("\n| `") - len(rows) == text.partition("## Verdicts")[2].count("\n| `")


def test_every_capability_is_named() -> None:
    """The how-to names what an adapter may declare absent."""
    text = (REFERENCE.parent / "how-to" / "prove-an-adapter.md").read_text()
    assert [name for name in CAPABILITIES if f"`{name}`" not in text] == []


def test_the_example_of_a_recording_can_be_read(tmp_path: Path) -> None:
    """docs/reference/recording.md shows a recording, not something like one."""
    path = tmp_path / "example.jsonl"
    path.write_text(re.findall(r"^```json\n(.*?)^```$", page("recording"), re.S | re.M)[0])
    [exchange] = read_recording(path)
    assert (exchange.status, exchange.end, exchange.error) == (200, "broken", "ReadError")
    assert exchange.chunks[1].data == "🙂".encode()[:3]
