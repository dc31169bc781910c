"""Write a complete distribution with an adapter in it.

The templates beside this module are a distribution named acme-echo, file by file; another name
takes the place of that one.
"""

import keyword
import re
import shlex
import sys
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

import registry
from registry.cli import status
from registry.cli.options import Action
from registry.cli.status import UsageError

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
) -> Action:
    """Write a new distribution: an adapter, its entry point, and the test that proves it right."""
    return lambda: write_adapter(name, Path(name) if into is None else into, http=http)


def write_adapter(name: str, folder: Path, *, http: bool) -> int:
    """Write the distribution and say how to go on. Returns the exit status.

    Args:
        name: The adapter's and the distribution's name.
        folder: Where to; it must be empty or not exist.
        http: Whether it is an HTTP adapter.

    Raises:
        UsageError: If the name or the folder cannot be used.
    """
    _check_name(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already, and not empty: choose another with --into")
    for path, text in rendered(name, http=http):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print(file)
    print(f"""
Now:
  cd {shlex.quote(str(folder))}
  python -m venv .venv && .venv/bin/pip install -e '.[test]'
  .venv/bin/pytest""")
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


def _check_name(name: str) -> None:
    package = name.replace("-", "_")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for an adapter: lower-case letters and digits, with single "
            "hyphens between the words, such as acme-echo"
        )
    if keyword.iskeyword(package) or package in sys.stdlib_module_names or package in _OURS:
        raise UsageError(f"{package} is the name of another Python module: choose a longer name")
    if name in registry.names():
        raise UsageError(f"an adapter named {name} is installed already: choose another name")


_OURS = {"adapter_api", "adapters", "registry", "tests"}
