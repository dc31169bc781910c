"""`new-adapter`: write a complete distribution with an adapter in it.

The templates beside this package are a distribution with an adapter named acme-echo; the chosen
name replaces that one.
"""

import keyword
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

import registry
from registry.cli.terminal import status
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.status import UsageError
from registry.cli.terminal.streams import say

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SUFFIX = ".txt"  # so that no tool takes a template for code of ours
_TEMPLATES = "templates"


def new_adapter(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Lower case with hyphens, such as acme-echo.")
    ],
    http: Annotated[bool, typer.Option("--http", help="For an engine behind HTTP.")] = False,
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="FOLDER", help="The folder to write; by default ./NAME."),
    ] = None,
    distribution: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What pip installs; by default worker-adapters-NAME."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Use a name that is already taken here.")
    ] = False,
) -> Action:
    """Write a new distribution: an adapter, its entry point, and the test that proves it right."""
    folder = Path(name) if into is None else into
    pip_name = distribution or f"worker-adapters-{name}"
    return lambda: _write(name, pip_name, folder, http=http, force=force)


COMMAND = Command(
    "new-adapter",
    new_adapter,
    ("worker-adapters new-adapter acme-echo", "worker-adapters new-adapter acme-http --http"),
)


def _write(name: str, distribution: str, folder: Path, *, http: bool, force: bool) -> int:
    _check_name(name)
    _check_distribution(distribution)
    if not force:
        _check_free(name, distribution)
    _check_folder(folder)
    for path, text in rendered(name, distribution, http=http):
        file = folder / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            where = error.filename or file
            raise UsageError(f"--into: {where}: {error.strerror or error}") from error
        say(file)
    quoted = shlex.quote(str(folder))
    say(f"""
Next:
  {_program("pip")} install -e {shlex.quote(f"{folder}[test]")}
  {_program("pytest")} {quoted}
  {_program("worker-adapters")} conformance {name}""")
    return status.OK


def rendered(name: str, distribution: str, *, http: bool) -> Iterator[tuple[str, str]]:
    """Yield the paths and texts of the distribution's files, sorted by path."""
    package = name.replace("-", "_")
    title = "".join(part.capitalize() for part in name.split("-"))
    words = {"acme-echo": name, "acme_echo": package, "AcmeEcho": title}
    words |= {
        "ACME_ECHO": package.upper(),
        "DISTRIBUTION": distribution,
        "#PROTOCOL": _HTTP if http else _PLAIN,
        "  #HTTP ": "  ",
        "#URL": " --base-url http://localhost:8000" if http else "",
        "#WIRE": f"| `{package}/wire.py` | the wire format: what is sent and read |\n"
        if http
        else "",
    }
    if not http:
        words['  #HTTP "httpx>=0.28,<1",\n'] = ""
    # The longest first, so that none hides in another.
    pattern = re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))))
    found = {
        path: text
        for kind in ("common", "http" if http else "plain")
        for path, text in _walk(files("registry.cli") / _TEMPLATES / kind)
    }
    for path, text in sorted(found.items()):
        new_path, new_text = (pattern.sub(lambda m: words[m[0]], part) for part in (path, text))
        yield _HIDDEN.get(new_path, new_path), new_text


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            yield prefix + entry.name.removesuffix(_SUFFIX), entry.read_text(encoding="utf-8")


def _program(name: str) -> str:
    """Return what to type for a program of the environment that runs this."""
    python = Path(sys.executable)
    path = python.with_name(name)
    first = path if path.exists() else python  # pytest comes with the command before it
    if shutil.which(first.name) == str(first):
        return name
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        example = better if _NAME.fullmatch(better) else "acme-echo"
        raise UsageError(
            f"{name!r} cannot be an adapter's name: use lower-case letters and digits, with single "
            f"hyphens between the words, such as {example}"
        )
    package = name.replace("-", "_")
    if keyword.iskeyword(package):
        raise UsageError(f"{package} is a keyword of Python: choose a longer name")
    if package in sys.stdlib_module_names or package in _OURS:
        raise UsageError(f"{package} is the name of another Python module: choose a longer name")
    if package in _known():
        raise UsageError(
            f"{package} is the module of a well-known package, which yours would hide: choose a "
            f"longer name, such as my-{name} or {name}-adapter"
        )
    if package in _IGNORED:
        raise UsageError(
            f"many tools ignore a folder named {package}, and the adapter would be missing from "
            "what they build or check: choose a longer name"
        )


def _check_distribution(distribution: str) -> None:
    # Source: packaging.python.org, name normalization.
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", distribution):
        raise UsageError(f"--distribution: {distribution!r} cannot be a distribution's name")


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: choose another with --into")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: choose another with --into")


def _check_free(name: str, distribution: str) -> None:
    """Refuse names that are in use here: installing would replace or hide something."""
    hint = "choose another name, or use it nevertheless with --force"
    if name in registry.names():
        raise UsageError(f"an adapter named {name} is installed already: {hint}")
    for each in (distribution, name):
        with suppress(PackageNotFoundError):
            raise UsageError(f"a distribution named {each} ({version(each)}) is installed: {hint}")
    spec = find_spec(name.replace("-", "_"))
    if spec is not None and spec.origin is not None:
        raise UsageError(f"a Python module of that name is installed: {hint}")


_HIDDEN = {"gitignore": ".gitignore", "ci.yml": ".github/workflows/ci.yml"}

_HTTP = """\
It speaks OpenAI's completions protocol (`POST /v1/completions` with `stream: true`). Another
protocol needs changes in two places: `request_body` and `Answer` in `wire.py`, and the paths in
`adapter.py`."""
_PLAIN = """\
It answers with the words of the prompt, in this process. Put your engine in the place of `_words`
in `adapter.py`."""

# The last two are in the new distribution itself.
_OURS = {"adapter_api", "adapters", "registry", "worker_adapters", "tests", "test_conformance"}
# By the default settings of git, hatchling, pytest or ruff.
_IGNORED = {"build", "dist", "node_modules", "site_packages", "venv"}


def _known() -> set[str]:
    """Return top-level modules on PyPI that authors of adapters, or their users, often have."""
    return set((files("registry.cli") / _TEMPLATES / "known.txt").read_text().split())
