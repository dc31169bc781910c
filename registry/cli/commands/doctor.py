"""`doctor`: a report on the installation, its environment, its adapters and its engine."""

import asyncio
import json
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

import registry
from adapter_api.errors import ConfigError, RegistryError
from registry import AdapterInfo, BoundAdapter
from registry.cli.commands.list_adapters import installed_names
from registry.cli.terminal import status
from registry.cli.terminal.arguments import (
    Adapter,
    BaseUrl,
    Json,
    Options,
    Url,
    get_adapter,
    one_url,
)
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.show import console
from registry.cli.terminal.status import UsageError
from registry.cli.terminal.streams import out, say
from registry.cli.terminal.text import harmless, one_line
from registry.cli.terminal.wording import config_problem, in_our_words

PACKAGES = ("attrs", "cattrs", "httpx", "httptools", "msgspec", "pluggy", "rich", "typer")
OPTIONAL = ("h2", "prometheus-client", "starlette", "uvicorn", "uvloop", "opentelemetry-api")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

_STYLES = {"ok": "green", "note": "yellow", "problem": "red"}


@attrs.frozen
class Finding:
    """One line of the report.

    Args:
        section: Its part of the report: "installation", "environment", "adapters" or "engine".
        name: The examined item.
        value: The finding; never a secret.
        level: "ok", "note" (worth knowing) or "problem".
    """

    section: str
    name: str
    value: str
    level: str = "ok"


def doctor(
    url: Url = None,
    adapter: Adapter = "openai-http",
    base_url: BaseUrl = None,
    option: Options = None,
    as_json: Json = False,
) -> Action:
    """Show versions, environment, adapters, and whether the engine answers; never a secret.

    The report can be pasted into an issue: keys are shown as set or not set.
    """

    def action() -> int:
        findings = []
        for finding in _report(adapter, one_url(url, base_url), option):
            findings.append(finding)
            if not as_json:
                _show(finding, new_section=_opens(findings))
        if as_json:
            say(json.dumps([attrs.asdict(finding) for finding in findings], indent=2))
        sound = all(finding.level != "problem" for finding in findings)
        return status.OK if sound else status.FAILED

    return action


COMMAND = Command(
    "doctor",
    doctor,
    ("worker-adapters doctor", "worker-adapters doctor http://localhost:8000 --json"),
)


def _report(name: str, base_url: str | None, pairs: list[str] | None) -> Iterator[Finding]:
    yield from _installation()
    yield from _environment(name)
    yield from map(_adapter, installed_names())
    yield from _engine(name, base_url, pairs)


# Sections


def _installation() -> Iterator[Finding]:
    def found(name: str, value: str, level: str = "ok") -> Finding:
        return Finding("installation", name, value, level)

    yield found("worker-adapters", version("worker-adapters"))
    yield found("python", f"{platform.python_version()} at {sys.executable}")
    yield found("system", platform.platform())
    yield found("package", str(Path(registry.__file__ or "").parent))
    yield found("needed", ", ".join(f"{name} {_version(name)}" for name in PACKAGES))
    yield found("optional", ", ".join(f"{name} {_version(name)}" for name in OPTIONAL))
    for stream in ("stdin", "stdout"):
        encoding = getattr(getattr(sys, stream), "encoding", None) or "unknown"
        utf8 = encoding.lower().replace("-", "") == "utf8"
        yield found(stream, f"encoding {encoding}", "ok" if utf8 else "note")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"


def _environment(name: str) -> Iterator[Finding]:
    def found(name: str, value: str, level: str = "ok") -> Finding:
        return Finding("environment", name, value, level)

    try:
        fields = registry.describe(name).config_fields
    except RegistryError:
        fields = ()
    for field in fields:
        if field.env:
            yield found(field.env, _shown(os.environ.get(field.env), secret=field.secret))
    blocked = os.environ.get("WORKER_ADAPTERS_BLOCKED")
    yield found("WORKER_ADAPTERS_BLOCKED", _shown(blocked), "note" if blocked else "ok")
    for proxy in PROXIES:
        if os.environ.get(proxy) or os.environ.get(proxy.lower()):
            yield found(proxy, "set, and not used: no proxy is read from the environment", "note")


def _shown(value: str | None, *, secret: bool = False) -> str:
    if not value:
        return "not set"
    return "set (a secret)" if secret else _without_userinfo(value)


def _without_userinfo(text: str) -> str:
    """Return an address without the name and password in it."""
    scheme, separator, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    _, at, bare = host.rpartition("@")
    return f"{scheme}{separator}***@{bare}{slash}{path}" if separator and at else text


def _adapter(name: str) -> Finding:
    info: AdapterInfo = registry.describe(name)
    level = {"ok": "ok", "blocked": "note"}.get(info.status, "problem")
    reason = f": {in_our_words(info.reason)}" if info.reason else ""
    return Finding(
        "adapters", name, f"{info.status}, {info.distribution} {info.version}{reason}", level
    )


def _engine(name: str, base_url: str | None, pairs: list[str] | None) -> Iterator[Finding]:
    def found(name: str, value: str, level: str = "ok") -> Finding:
        return Finding("engine", name, value, level)

    try:
        adapter = get_adapter(name, base_url, pairs)
    except (ConfigError, UsageError) as error:
        unset = base_url is None and not pairs
        level = "note" if unset else "problem"
        hint = "; name a server to examine it: worker-adapters doctor URL" if unset else ""
        yield found(name, f"is not configured: {_problems(error)}{hint}", level)
        return
    except RegistryError as error:
        yield found(name, str(error), "problem")
        return
    yield from (found(each, value) for each, value in _sent(adapter))
    health = asyncio.run(_health(adapter))
    level = "ok" if health.ready else "problem"
    yield found("health", f"{health.state}: {health.message or 'no details'}", level)


def _problems(error: ConfigError | UsageError) -> str:
    """Return what is wrong with the options, in the terms of the command line."""
    if isinstance(error, ConfigError):
        return "; ".join(map(config_problem, error.problems))
    return one_line(error)


def _sent(adapter: BoundAdapter) -> Iterator[tuple[str, str]]:
    """Yield where requests go and which secrets go with them."""
    config: Any = adapter.config
    address = getattr(config, "base_url", None)
    if isinstance(address, str):
        parts = urlsplit(_without_userinfo(address))
        yield "requests go to", f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    for field in registry.describe(adapter.name).config_fields:
        value = getattr(config, field.name, None)
        if field.secret:
            yield field.name, "set, and sent there" if value else "not set: nothing is sent"
        elif value is not None and not _is_default(value, field.default):
            yield field.name, _without_userinfo(str(value))


def _is_default(value: object, default: str | None) -> bool:
    if default == f"{type(value).__name__}()":  # made by a factory
        return value == type(value)()
    return default in (repr(value), str(value))


async def _health(adapter: BoundAdapter) -> Any:
    async with adapter:
        return await adapter.health()


# Showing


def _opens(findings: list[Finding]) -> bool:
    return len(findings) < 2 or findings[-1].section != findings[-2].section


def _show(finding: Finding, *, new_section: bool) -> None:
    if not out().isatty():
        cells = (finding.section, finding.level, finding.name, finding.value)
        say("\t".join(harmless(one_line(cell)) for cell in cells))
        return
    from rich.text import Text

    if new_section:
        console().print(Text(finding.section.capitalize(), "bold"))
    line = Text(f"  {harmless(finding.name):<26} ")
    line.append(harmless(one_line(finding.value)), _STYLES[finding.level])
    console().print(line, soft_wrap=True)
