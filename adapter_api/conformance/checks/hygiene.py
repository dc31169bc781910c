"""Tasks, threads, files and warnings that a job must not leave behind."""

import asyncio
import gc
import os
import threading
import warnings
from contextlib import suppress
from typing import Any

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.cancelling import STOPPED
from adapter_api.conformance.jobs import becomes_true, first_token, listed, run
from adapter_api.conformance.subject import Subject
from adapter_api.conformance.verdict import Violation

_DROPPED = "was dropped before its end"  # TokenStream's own warning, which the kit provokes
_FILES = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


@check("WA-INT-3002 ORCH-3056", needs=STOPPED)
async def leaks(subject: Subject) -> str:
    """After jobs ended in every way, and aclose(), no task, thread, file or warning is left."""
    await _every_way(subject)  # lazy imports and caches are done
    gc.collect()
    tasks, threads, files = asyncio.all_tasks(), set(threading.enumerate()), _open_files()
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(str(context["message"])))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await _every_way(subject)
        await becomes_true(lambda: asyncio.all_tasks() == tasks and len(_open_files() - files) == 0)
        gc.collect()
    complaints += [
        f"{w.category.__name__}: {w.message}" for w in caught if _DROPPED not in str(w.message)
    ]
    left: dict[str, list[Any]] = {
        "task": [task.get_coro() for task in asyncio.all_tasks() - tasks],
        "thread": [t.name for t in set(threading.enumerate()) - threads if not _pooled(t)],
        "open file": sorted(_open_files() - files),
        "complaint": complaints,
    }
    for kind, found in left.items():
        if found:
            raise Violation(f"{len(found)} {kind} left behind: {listed(found, 3)}")
    return f"before and after, files: {len(files)}, threads: {len(threads)}"


async def _every_way(subject: Subject) -> None:
    """Run jobs that end in every way, and close their adapter."""
    async with subject.adapter() as adapter:
        await run(adapter, subject.job())
        stream = adapter.submit(subject.job(max_tokens=256))
        await first_token(stream)
        await adapter.cancel(stream.job_id)
        dropped = adapter.submit(subject.job(max_tokens=256))
        await first_token(dropped)
        del dropped, stream
        gc.collect()
        await asyncio.sleep(0.05)
        await adapter.health()


def _open_files() -> set[str]:
    """Return the open files, with their numbers."""
    found = set()
    for number in os.listdir(_FILES):
        with suppress(OSError):  # the one that lists the folder is closed by now
            found.add(f"{number} {os.readlink(f'{_FILES}/{number}')}")
    return found


def _pooled(thread: threading.Thread) -> bool:
    """Return whether it belongs to the loop's own pool, which getaddrinfo uses."""
    return thread.name.startswith("asyncio_")


HYGIENE: tuple[Check, ...] = (leaks,)
