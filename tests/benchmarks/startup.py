"""The cost of startup: imports, listing adapters, getting one. Each in processes of its own."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DEPENDENCIES = (
    "import attrs, cattrs, pluggy, importlib_metadata, msgspec, httpx, httptools, asyncio"
)
_FIRST_USE = "import registry; registry.get('openai-http', base_url='http://127.0.0.1:9')"

IMPORTS = {
    "bare": "pass",
    "ours": "import registry, adapter_api",
    "httpx": "import httpx",
    "dependencies": _DEPENDENCIES,
    "first use": _FIRST_USE,
    "openai": "import openai",
    "aiohttp": "import aiohttp",
    "litellm": "import litellm",
}

_NAMES_HERE = """
import importlib, json, sys, time
sys.path.insert(0, {path!r})
import importlib_metadata, registry

def ours():
    registry.refresh()
    return registry.names()

def theirs():
    importlib.invalidate_caches()
    return [e.name for e in importlib_metadata.entry_points(group="worker_adapters")]

assert set(ours()) == set(theirs()), (ours(), theirs())
spent = []
for call in (ours, theirs) * 5:
    began = time.process_time()
    call()
    spent.append(time.process_time() - began)
print(json.dumps([min(spent[0::2]), min(spent[1::2])]))
"""

_GET = """
import json, time
import registry
took = []
for _ in range(50):
    began = time.perf_counter()
    registry.get("openai-http", base_url="http://127.0.0.1:9")
    took.append(time.perf_counter() - began)
print(json.dumps(sorted(took)[len(took) // 2]))
"""


@contextmanager
def compiled_once() -> Iterator[dict[str, str]]:
    """An environment in which every module is compiled in the first process only: an installed
    package comes compiled, and ours must not pay for lying in a checkout."""
    with tempfile.TemporaryDirectory() as cache:
        changed = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
        yield {**os.environ, **changed}


def child_cpu(code: str, environment: dict[str, str]) -> float | None:
    """CPU seconds of a Python that runs `code`; None if it fails (not installed, say)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stderr=subprocess.DEVNULL, check=False, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        return None
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fresh_cpu(codes: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each code in turn, over those of "bare" in the same round."""
    samples: dict[str, list[float]] = {name: [] for name in codes}
    with compiled_once() as environment:
        runnable = [n for n, code in codes.items() if child_cpu(code, environment) is not None]
        for _ in range(rounds):
            spent = {name: child_cpu(codes[name], environment) or 0.0 for name in runnable}
            for name in runnable:
                samples[name].append(spent[name] - spent["bare"])
    return {name: values for name, values in samples.items() if values}


@contextmanager
def distributions(count: int) -> Iterator[str]:
    """A directory with the metadata of `count` installed distributions."""
    with tempfile.TemporaryDirectory() as root:
        for number in range(count):
            info = Path(root) / f"dist_{number}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: dist-{number}\nVersion: 1.0\n"
                + "Requires-Dist: something\n" * 20
            )
            (info / "RECORD").write_text("")
            if number % 4 == 0:  # about as many as have any in a real environment
                text = f"[console_scripts]\ncommand-{number} = dist_{number}.cli:main\n"
                if number % 40 == 0:
                    text += f"\n[worker_adapters]\nadapter-{number} = dist_{number}:Adapter\n"
                (info / "entry_points.txt").write_text(text)
        yield root


def names_cpu(count: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """CPU seconds of registry.names() and of importlib_metadata's own call, by pairs: in fresh
    processes with their imports, and in a process that has done it before."""
    with distributions(count) as path:
        here = f"import sys; sys.path.insert(0, {path!r}); "
        codes = {
            "bare": here,
            "ours": here + "import registry; assert registry.names()",
            "theirs": here
            + "import importlib_metadata as m; list(m.entry_points(group='worker_adapters'))",
        }
        fresh = fresh_cpu(codes, rounds)
        again = []
        for _ in range(rounds):
            code = _NAMES_HERE.format(path=path)
            said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            ours, theirs = json.loads(said.stdout)
            again.append((ours, theirs))
    return {"fresh": list(zip(fresh["ours"], fresh["theirs"], strict=True)), "again": again}


def get_s(rounds: int) -> list[float]:
    """Median seconds of registry.get on a warm registry, of each of `rounds` processes."""
    runs = (
        subprocess.run([sys.executable, "-c", _GET], check=True, capture_output=True)
        for _ in range(rounds)
    )
    return [json.loads(run.stdout) for run in runs]
