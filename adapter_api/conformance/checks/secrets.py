"""Checks of every place where the value of a secret option could show."""

import asyncio
import io
import logging
import os
import sys
import tempfile
import types
import typing
import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

import attrs

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.jobs import Adapter, listed, run
from adapter_api.conformance.subject import Subject
from adapter_api.conformance.verdict import Absent, Violation
from adapter_api.task import TaskRequest

CANARY = "canary-1f7d-secret-of-the-conformance-kit"

FORMS = (CANARY, f"sk-{CANARY}", f"http://kit:{CANARY}@127.0.0.1:9")
"""Values for options with validators: keys with a prefix, addresses."""

MIN_SECRET_CHARS = 8
"""The minimum length of an author's own value for an option, so that it can be searched for."""

_SECRET_WORDS = {"auth", "creds", "key", "pass", "pwd", "secret", "token"}
_SECRET_PARTS = ("accesskey", "apikey", "authorization", "credential", "passphrase", "passwd",
                 "password", "privatekey", "secret")  # fmt: skip

_Places = dict[str, list[str]]
"""Shown texts, by place."""


@check("HTU-1004", needs=("answers",))
async def secrets(subject: Subject) -> str:
    """No secret option shows in a repr, an event, an answer, an error, a log record or a print."""
    values = _values(subject)
    if not values:
        raise Absent("no option holds a secret")
    for name, value in values.items():
        places = await _shown(subject, name, value)
        sought = CANARY if CANARY in value else value
        found = [place for place, texts in places.items() if any(sought in text for text in texts)]
        if found:
            raise Violation(
                f"the option {name} shows in {listed(found)}: write attrs.field(repr=False, "
                "metadata={'secret': True}) and keep it out of messages. If it only sounds "
                "secret, write metadata={'secret': False}"
            )
    return listed(values)


# The options and their values


def _values(subject: Subject) -> dict[str, str]:
    """Return the value that each secret option is given.

    Raises:
        Violation: If one is declared secret, refuses the kit's value, and has none of its own.
    """
    config = subject.make().config
    if not attrs.has(type(config)):
        raise Absent("the adapter's config class has no readable fields")
    values = {}
    for field in _secret_fields(type(config)):
        option, own = field.alias or field.name, getattr(config, field.name, None)
        form = next((text for text in FORMS if _takes(subject, option, text)), None)
        if form is not None:
            values[option] = form
        elif not field.metadata.get("secret"):  # only its name sounds secret
            continue
        elif isinstance(own, str) and len(own) >= MIN_SECRET_CHARS and own != field.default:
            values[option] = own
        elif _may_be_text(field.type):
            raise Violation(
                f"the secret option {option} could not be tried, as it refuses {CANARY!r}: give "
                f"the kit adapters with a valid one, of {MIN_SECRET_CHARS} characters or more"
            )
    return values


def _secret_fields(config: type[Any]) -> Iterator["attrs.Attribute[Any]"]:
    """Yield the options that hold a secret: by their declaration, else by their name."""
    with suppress(Exception):  # a name in an annotation that is for type checkers only
        attrs.resolve_types(config)
    for field in attrs.fields(config):
        declared = field.metadata.get("secret")
        sounds = declared is None and _sounds_secret(field.name) and _may_be_text(field.type)
        if field.init and (declared or sounds):
            yield field


def _sounds_secret(name: str) -> bool:
    lower = name.lower()
    joined = lower.replace("_", "")
    return not _SECRET_WORDS.isdisjoint(lower.split("_")) or any(
        part in joined for part in _SECRET_PARTS
    )


def _may_be_text(hint: Any) -> bool:
    """Return whether an option's type admits a str. Others, such as functions, show nothing."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(map(_may_be_text, typing.get_args(hint)))
    return hint in (str, Any, None) or (
        isinstance(hint, str) and "str" in hint.replace(" ", "").split("|")
    )


def _takes(subject: Subject, name: str, value: str) -> bool:
    try:
        subject.make(**{name: value})
    except Exception:
        return False
    return True


# The places where they might show


async def _shown(subject: Subject, name: str, value: str) -> _Places:
    """Collect everything that an adapter with this value shows."""
    places: _Places = {}
    with _recorded_output(places):
        async with subject.adapter(**{name: value}) as adapter:
            places["the adapter's repr"] = [repr(adapter), repr(adapter.adapter)]
            places["its config's repr"] = [repr(adapter.config)]
            places["an event"] = await _events(subject, adapter)
            for hook in ("health", "props", "engine_version"):
                places[f"an answer of {hook}()"] = await _result_or_failure(getattr(adapter, hook))
        jobs_that_may_fail = subject.jobs_that_may_fail()
        errors = await asyncio.gather(
            *(_failed(at, {name: value}, job) for at, job in jobs_that_may_fail)
        )
        places["an error"] = [text for texts in errors for text in texts]
    return places


async def _events(subject: Subject, adapter: Adapter) -> list[str]:
    """Return all events of a small job."""
    try:
        trace = await subject.trace(adapter, subject.job())
    except Exception as exc:
        return _chain(exc)
    return [*map(repr, trace.events), *_chain(trace.error)]


async def _result_or_failure(hook: Callable[[], Awaitable[Any]]) -> list[str]:
    """Return a hook's result or its failure; other checks decide whether that is right."""
    try:
        return [repr(await hook())]
    except Exception as exc:
        return _chain(exc)


async def _failed(subject: Subject, options: dict[str, str], task: TaskRequest) -> list[str]:
    """Collect how a job fails, and what health() returns there."""
    try:
        async with subject.adapter(**options) as adapter:
            outcome = await run(adapter, task)
            return [*_chain(outcome.error), *await _result_or_failure(adapter.health)]
    except Exception as exc:
        return _chain(exc)


def _chain(error: BaseException | None) -> list[str]:
    """Return an error with its causes and contexts, attributes included."""
    texts: list[str] = []
    waiting, seen = [error], set[int]()
    while waiting:
        exc = waiting.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        texts.append(f"{exc!r} {exc} {vars(exc)}")
        waiting += [exc.__cause__, exc.__context__]
    return texts


@contextmanager
def _recorded_output(places: _Places) -> Iterator[None]:
    """Record log records, warnings and prints, also those that go past Python's streams."""
    printed = io.StringIO()
    with (
        _written() as written,
        _logged() as records,
        warnings.catch_warnings(record=True) as caught,
        redirect_stdout(printed),
        redirect_stderr(printed),
    ):
        warnings.simplefilter("always")
        yield
    places["a log record"] = list(_formatted(records))
    places["a warning"] = [str(warning.message) for warning in caught]
    places["what it prints"] = [printed.getvalue(), *written]


@contextmanager
def _written() -> Iterator[list[str]]:
    """Record what is written to descriptors 1 and 2 themselves. The list is filled on leaving."""
    texts: list[str] = []
    with tempfile.TemporaryFile() as file:
        with ExitStack() as stack:
            for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
                with suppress(OSError, ValueError):  # a process without it
                    stream.flush()
                    before = os.dup(descriptor)
                    stack.callback(os.close, before)
                    stack.callback(os.dup2, before, descriptor)
                    os.dup2(file.fileno(), descriptor)
            yield texts
        file.seek(0)
        texts.append(file.read().decode("utf-8", "replace"))


@contextmanager
def _logged() -> Iterator[list[logging.LogRecord]]:
    """Capture every log record, whatever its logger and handlers."""
    records: list[logging.LogRecord] = []
    factory = logging.getLogRecordFactory()

    def note(*args: Any, **more: Any) -> logging.LogRecord:
        records.append(factory(*args, **more))
        return records[-1]

    levels = {logger: logger.level for logger in _loggers() if logger.level}
    logging.setLogRecordFactory(note)
    for logger in levels:
        logger.setLevel(logging.DEBUG)
    try:
        yield records
    finally:
        logging.setLogRecordFactory(factory)
        for logger, level in levels.items():
            logger.setLevel(level)


def _loggers() -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.values()
    return [logging.getLogger(), *(one for one in known if isinstance(one, logging.Logger))]


def _formatted(records: Iterable[logging.LogRecord]) -> Iterator[str]:
    formatter = logging.Formatter()
    for record in records:
        with suppress(Exception):  # its arguments do not fit; they show below
            yield formatter.format(record)
        yield str(vars(record))


SECRETS: tuple[Check, ...] = (secrets,)
