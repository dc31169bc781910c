"""Run one job, print it as it comes, and stop it when a signal arrives."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

from adapter_api import (
    Answer,
    Cancelled,
    End,
    Error,
    TaskRequest,
    TokenStream,
    WorkerError,
)
from registry.cli.terminal import status
from registry.cli.terminal.output import Output
from registry.cli.terminal.wording import in_our_words
from registry.serving.signals import first_signal
from registry.serving.usable import json_problem

_NOT_WHOLE = "what was printed is not the whole answer"


class Closable(Protocol):
    """Anything with connections to close."""

    async def aclose(self) -> None:
        """Close them."""


Submit = Callable[[TaskRequest], TokenStream]

Words = Callable[[str], str]

Begin = Callable[[], tuple[Closable, Submit]]
"""Called in the event loop; returns the object to close and the function that submits."""


def run_job(begin: Begin, task: TaskRequest, *, frames: bool, words: Words = in_our_words) -> int:
    """Run `task`, print its answer, and close what ran it.

    SIGINT, SIGTERM and SIGHUP cancel the job; this returns when its connection is closed. The
    second signal kills the process.

    Args:
        begin: Opens what runs it.
        task: The job.
        frames: Print every event as a JSON frame instead of the text.
        words: Puts an error's advice into the words of what the user wrote.

    Returns:
        The exit status.

    Raises:
        BrokenPipeError: If the reader of our output went away; the job is cancelled.
    """
    return asyncio.run(_run(begin, task, Output(frames=frames), words))


async def _run(begin: Begin, task: TaskRequest, output: Output, words: Words) -> int:
    worker, submit = begin()
    async with contextlib.aclosing(worker):
        failure, caught = await show_job(submit(task), output)
    if failure is not None:
        return _report(failure, output, caught, words)
    assert output.answer is not None  # a job without failure has an End
    return _conclude(output.answer, task)


async def show_job(stream: TokenStream, output: Output) -> tuple[WorkerError | None, list[int]]:
    """Print a job's events; the first signal cancels it.

    Returns:
        The error that ended it, if one did, and the signals that arrived.
    """
    failure: WorkerError | None = None
    cancelling: list[asyncio.Task[bool]] = []
    with first_signal(lambda: cancelling.append(asyncio.create_task(stream.cancel()))) as caught:
        try:
            async with stream:
                async for event in stream:
                    output.show(event)
                    if isinstance(event, Error):
                        failure = event.error
                    if isinstance(event, End | Error):
                        break
        except WorkerError as error:  # raised before Started
            output.show(Error(error))
            failure = error
    return failure, caught


def _conclude(answer: Answer, task: TaskRequest) -> int:
    """Print remarks on a whole answer and return the exit status.

    Text is of use also where it is cut or a refusal. JSON that was asked for and tool calls are
    for programs: such an answer is a failure if a program cannot take all of it.
    """
    problems = list(_unusable(answer, task))
    for problem in problems:
        status.complain(problem)
    if problems:
        return status.FAILED
    if not answer.text and not answer.tool_calls:
        status.note(_no_text(answer, task))
    if answer.refused:
        status.note("the model refused to answer; what was printed is its refusal")
    elif answer.cut:
        status.note(f"the answer was cut off by the limit on tokens{_limit(task)}")
    return status.OK


def _no_text(answer: Answer, task: TaskRequest) -> str:
    if not answer.reasoning:
        return "the answer has no text"
    shown = "" if task.include_reasoning else "; show it with --reasoning"
    return f"the answer has no text, only reasoning{shown}"


def _unusable(answer: Answer, task: TaskRequest) -> Iterator[str]:
    """Yield why a program cannot use the answer that was asked for."""
    for call in answer.invalid_tool_calls:
        reason = "was cut off" if call.reason == "cut" else "is not JSON"
        more = f"; it was the limit on tokens{_limit(task)}" if answer.cut else ""
        yield f"a call of {call.name} {reason} and must not be run: {call.arguments}{more}"
    error = json_problem(task, answer)
    if error is None:
        return
    match error.reason:
        case "refused":
            yield "the model refused to answer; what was printed is its refusal, not JSON"
        case "cut":
            yield f"the JSON was cut off by the limit on tokens{_limit(task)}"
        case "not_json":
            yield str(error)


def _limit(task: TaskRequest) -> str:
    given = f"--max-tokens {task.max_tokens}" if task.max_tokens else "the engine's default"
    return f" ({given}); raise it with --max-tokens"


def _report(failure: WorkerError, output: Output, caught: list[int], words: Words) -> int:
    """Print why there is no whole answer and return the exit status."""
    cancelled = isinstance(failure, Cancelled) and bool(caught)
    text = "cancelled" if cancelled else words(str(failure))
    status.complain(f"{text}; {_NOT_WHOLE}" if output.tokens else text)
    return status.after_signal(caught[0]) if cancelled else status.FAILED
