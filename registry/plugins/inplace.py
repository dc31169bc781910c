"""Distributions that are installed in place (`pip install -e`).

Their modules stay where they are written. A `.pth` file in site-packages names the folder, and
Python reads it when it starts: never for what is installed later.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import importlib_metadata

if TYPE_CHECKING:
    from importlib_metadata import IDistribution  # not in older versions


def follow(distributions: Iterable["IDistribution"]) -> None:
    """Put the folders that the distributions' `.pth` files name at the end of sys.path, as Python
    will do when it starts the next time.

    Their lines of code, which it will run then, are not run: in a process that works already, that
    is for nobody but its owner to do.
    """
    known = {_compared(entry) for entry in sys.path}
    for folder in [folder for each in distributions for folder in _folders(each)]:
        if _compared(folder) not in known and os.path.isdir(folder):
            known.add(_compared(folder))
            sys.path.append(folder)


def is_editable(distribution: str) -> bool:
    """Whether the distribution is installed in place. Source: PEP 610, direct_url.json."""
    try:
        text = importlib_metadata.distribution(distribution).read_text("direct_url.json")
        return bool(json.loads(text or "{}").get("dir_info", {}).get("editable"))
    except Exception:  # absent, or not what the standard says
        return False


def _folders(distribution: "IDistribution") -> Iterator[str]:
    """The folders that the distribution's `.pth` files name."""
    try:
        rows = (distribution.read_text("RECORD") or "").splitlines()
        names = [row.partition(",")[0] for row in rows]
        for name in names:
            if name.endswith(".pth") and "/" not in name:
                yield from _lines(str(distribution.locate_file(name)))
    except (OSError, UnicodeError):  # half installed, half uninstalled
        return


def _lines(path: str) -> Iterator[str]:
    with open(path, encoding="utf-8-sig") as file:
        for line in map(str.strip, file):
            if line and not line.startswith(("#", "import ", "import\t")):
                yield os.path.join(os.path.dirname(path), line)


def _compared(entry: str) -> str:
    return os.path.normcase(os.path.abspath(entry))
