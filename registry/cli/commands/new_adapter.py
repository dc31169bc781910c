"""Write a complete distribution with an adapter in it.

The templates beside this module are a distribution named acme-echo, file by file; another name
takes the place of that one.
"""

import keyword
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
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
    name: Annotated[str, typer.Argument(help="Lower case with hyphens, such as acme-echo.")],
    http: Annotated[
        bool, typer.Option("--http", help="For an engine that is asked over HTTP.")
    ] = False,
    into: Annotated[
        Path | None, typer.Option(help="The folder to write; by default ./NAME.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even if something of that name is installed.")
    ] = False,
) -> Action:
    """Write a new distribution: an adapter, its entry point, and the test that proves it right."""
    folder = Path(name) if into is None else into
    return lambda: write_adapter(name, folder, http=http, force=force)


COMMAND = Command(
    "new-adapter",
    new_adapter,
    ("worker-adapters new-adapter acme-echo", "worker-adapters new-adapter acme-http --http"),
)


def write_adapter(name: str, folder: Path, *, http: bool, force: bool = False) -> int:
    """Write the distribution and say how to go on. Returns the exit status.

    Args:
        name: The adapter's and the distribution's name.
        folder: Where to; it must be an empty folder or not exist.
        http: Whether it is an HTTP adapter.
        force: Take the name even if an adapter or a distribution has it.

    Raises:
        UsageError: If the name or the folder cannot be used.
    """
    _check_name(name)
    if not force:
        _check_free(name)
    _check_folder(folder)
    for path, text in rendered(name, http=http):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        say(file)
    quoted = shlex.quote(str(folder))
    say(f"""
Next:
  {_program("pip")} install -e {shlex.quote(f"{folder}[test]")}
  {_program("pytest")} {quoted}
  {_program("worker-adapters")} conformance {name}""")
    return status.OK


def rendered(name: str, *, http: bool) -> Iterator[tuple[str, str]]:
    """The files of the distribution, as paths and texts, the paths sorted."""
    package = name.replace("-", "_")
    title = "".join(part.capitalize() for part in name.split("-"))
    words = {"acme-echo": name, "acme_echo": package, "AcmeEcho": title}
    words |= {
        "ACME_ECHO": package.upper(),
        "  #HTTP ": "  ",
        "#URL": " --base-url http://localhost:8000" if http else "",
        "#WIRE": f"| `{package}/wire.py` | what is sent, and what is read |\n" if http else "",
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
        yield {"gitignore": ".gitignore"}.get(new_path, new_path), new_text


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            yield prefix + entry.name.removesuffix(_SUFFIX), entry.read_text(encoding="utf-8")


def _program(name: str) -> str:
    """What to type for a program of the environment that runs this."""
    path = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(path):
        return name
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        example = better if _NAME.fullmatch(better) else "acme-echo"
        raise UsageError(
            f"{name!r} is no name for an adapter: lower-case letters and digits, with single "
            f"hyphens between the words, such as {example}"
        )
    package = name.replace("-", "_")
    if keyword.iskeyword(package):
        raise UsageError(f"{package} is a word of Python itself: choose a longer name")
    if package in sys.stdlib_module_names or package in _OURS:
        raise UsageError(f"{package} is the name of another Python module: choose a longer name")
    if package in _PASSED_OVER:
        raise UsageError(
            f"many tools pass over a folder named {package}, and the adapter would be missing from "
            "what they build or check: choose a longer name"
        )


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is there already, and no folder: choose another with --into")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is there already, and not empty: choose another with --into")


def _check_free(name: str) -> None:
    """Installing what has the name of something else would replace that, or hide it."""
    hint = "choose another name, or write it nevertheless with --force"
    if name in registry.names():
        raise UsageError(f"an adapter named {name} is installed already: {hint}")
    try:
        found = version(name)
    except PackageNotFoundError:
        spec = find_spec(name.replace("-", "_"))
        if spec is not None and spec.origin is not None:
            raise UsageError(f"there is a Python module of that name: {hint}") from None
    else:
        raise UsageError(f"a distribution named {name} ({found}) is installed already: {hint}")


# The last two are in the new distribution itself.
_OURS = {"adapter_api", "adapters", "registry", "worker_adapters", "tests", "test_conformance"}
# By the default settings of git, hatchling, pytest or ruff.
_PASSED_OVER = {"build", "dist", "node_modules", "site_packages", "venv"}
