"""What must not be left behind, and what must not be shown."""

import asyncio
import gc
import logging
import os
import threading
import warnings
from contextlib import suppress
from typing import Any

import attrs

from adapter_api.conformance.check import Absent, Check, Violation, check
from adapter_api.conformance.checks.cancelling import STOPPED
from adapter_api.conformance.subject import Adapter, Subject, first_token, listed, run, settled

CANARY = "canary-1f7d-secret-of-the-conformance-kit"

_SECRET_WORDS = ("key", "token", "secret", "password")
_DROPPED = "was dropped before its end"  # TokenStream's own warning, which the kit provokes
_FILES = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


@check("WA-INT-3002 ORCH-3056", needs=STOPPED)
async def leaks(subject: Subject) -> str:
    """After jobs ended in every way, and aclose(), no task, thread, file or warning is left."""
    await _every_way(subject)  # what is loaded once is loaded now
    gc.collect()
    tasks, threads, files = asyncio.all_tasks(), set(threading.enumerate()), _open_files()
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(str(context["message"])))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await _every_way(subject)
        await settled(lambda: asyncio.all_tasks() == tasks and len(_open_files() - files) == 0, 1.0)
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
    return f"{len(files)} files, {len(threads)} threads before and after"


async def _every_way(subject: Subject) -> None:
    """Jobs that end in each way there is, and the end of their adapter."""
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
    """What is open, with a file's number where the system tells no more."""
    found = set()
    for number in os.listdir(_FILES):
        with suppress(OSError):  # the one that lists the folder is closed by now
            found.add(f"{number} {os.readlink(f'{_FILES}/{number}')}")
    return found


def _pooled(thread: threading.Thread) -> bool:
    """Whether it belongs to the loop's own pool, which getaddrinfo uses."""
    return thread.name.startswith("asyncio_")


@check("HTU-1004", needs=("answers",))
async def secrets(subject: Subject) -> str:
    """No secret option shows in a repr, a log record of any level, an error or a health message."""
    fields = [name for name in _secret_fields(subject) if _takes(subject, name)]
    if not fields:
        raise Absent("no option holds a secret")
    for name in fields:
        places = await _places(subject, name)
        if places:
            raise Violation(
                f"the option {name} shows in {listed(places)}: write attrs.field(repr=False, "
                "metadata={'secret': True}), and keep it out of messages"
            )
    return listed(fields)


async def _places(subject: Subject, name: str) -> list[str]:
    """Where the value of an option shows."""
    shown: dict[str, str] = {}
    with _Listening() as records:
        async with subject.adapter(**{name: CANARY}) as adapter:
            shown["the adapter's repr"] = f"{adapter!r} {adapter.adapter!r}"
            shown["its config's repr"] = repr(adapter.config)
            shown["an answer about health"] = repr(await adapter.health())
            for task in (subject.job(), subject.job(model="no-such-model")):
                shown["an error"] = repr((await run(adapter, task)).error)
            shown["an answer about props"] = repr(await _props(adapter))
    shown["a log record"] = "\n".join(records)
    return [place for place, text in shown.items() if CANARY in text]


async def _props(adapter: Adapter) -> Any:
    with suppress(Exception):  # which another check reports
        return await adapter.props()


def _secret_fields(subject: Subject) -> list[str]:
    """Options that hold a secret: by their declaration, else by their name."""
    config = subject.make().config
    if not attrs.has(type(config)):
        raise Absent("the adapter's config tells no fields")
    found = []
    for field in attrs.fields(type(config)):
        declared = field.metadata.get("secret")
        named = any(word in field.name.lower().split("_") for word in _SECRET_WORDS)
        if field.init and (declared or (declared is None and named)):
            found.append(field.alias)
    return found


def _takes(subject: Subject, name: str) -> bool:
    """Whether the option may be a text: others, such as functions, have nothing to show."""
    try:
        subject.make(**{name: CANARY})
    except Exception:
        return False
    return True


class _Listening(logging.Handler):
    """Everything that is logged while it is entered, at every level, as text."""

    def __enter__(self) -> list[str]:
        self.texts: list[str] = []
        root = logging.getLogger()
        self._levels = {logger: logger.level for logger in (root, *_loggers()) if logger.level}
        for logger in self._levels:
            logger.setLevel(logging.DEBUG)
        root.addHandler(self)
        return self.texts

    def __exit__(self, *exc_info: object) -> None:
        logging.getLogger().removeHandler(self)
        for logger, level in self._levels.items():
            logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self.texts.append(f"{text} {vars(record)}")


def _loggers() -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.values()
    return [logger for logger in known if isinstance(logger, logging.Logger)]


HYGIENE: tuple[Check, ...] = (leaks, secrets)
