"""`chat`: an interactive conversation in the terminal."""

import asyncio
from typing import Any

import attrs

from adapter_api import Cancelled
from adapter_api.task import new_id
from registry.cli.terminal import status
from registry.cli.terminal.arguments import (
    Adapter,
    BaseUrl,
    MaxTokens,
    Model,
    Options,
    Pool,
    System,
    Temperature,
    Url,
    Workers,
    one_url,
)
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.jobs import Closable, Submit, Words, show_job
from registry.cli.terminal.output import Output
from registry.cli.terminal.pools import chosen
from registry.cli.terminal.prompts import make_task
from registry.cli.terminal.streams import out, say
from registry.cli.terminal.text import harmless
from registry.cli.terminal.typed import Typed
from registry.cli.terminal.wording import in_our_words, in_words_of_the_file

HELP = """\
/cancel        stop the answer that is being printed; Ctrl-C does the same
/clear         begin a new conversation
/history       show the conversation
/system TEXT   set the system message
/quit          end the chat; Ctrl-D does the same"""

MAX_MESSAGES = 1000
"""The maximum number of messages kept of a conversation; no model reads as many."""


def chat(
    url: Url = None,
    adapter: Adapter = "openai-http",
    base_url: BaseUrl = None,
    model: Model = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    option: Options = None,
    workers: Workers = None,
    pool: Pool = None,
) -> Action:
    """Chat with a model; Ctrl-C stops an answer, /help lists the commands of the chat."""
    begin = chosen(adapter, one_url(url, base_url), option, workers, pool)
    fields = {"model": model, "max_tokens": max_tokens, "temperature": temperature}

    def action() -> int:
        make_task({**fields, "messages": [{"role": "user", "content": "x"}]})  # check the options
        with asyncio.Runner() as runner:
            worker, submit = runner.run(begun())
            try:
                words = in_our_words if workers is None else in_words_of_the_file
                return _Chat(runner, submit, fields, system, words).run()
            finally:
                runner.run(worker.aclose())

    async def begun() -> tuple[Closable, Submit]:
        return begin()

    return action


COMMAND = Command(
    "chat",
    chat,
    (
        "worker-adapters chat http://localhost:8000",
        "worker-adapters chat --workers workers.toml --pool chat --system 'Answer briefly.'",
    ),
)


@attrs.define(eq=False)
class _Chat:
    """One conversation.

    Attributes:
        failed: Whether the last answer failed.
    """

    _runner: asyncio.Runner
    _submit: Submit
    _fields: dict[str, Any]
    _system: str | None
    _words: Words
    _messages: list[dict[str, Any]] = attrs.field(factory=list, init=False)
    _session_id: str = attrs.field(factory=new_id, init=False)
    failed: bool = attrs.field(default=False, init=False)

    def run(self) -> int:
        """Chat to the end of the input.

        Returns:
            The exit status: FAILED if the last answer failed.
        """
        typed = Typed()
        prompt = "> " if out().isatty() else ""
        if prompt:
            status.note("/help lists the commands; /quit or Ctrl-D ends the chat")
        interrupted = False
        while True:
            try:
                line = typed.next(prompt)
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                status.note("there is no answer to stop; /quit or Ctrl-D ends the chat")
                continue
            interrupted = False
            if line is None or line.strip() == "/quit":
                return status.FAILED if self.failed else status.OK
            if not _is_text(line):
                status.complain("the line is not valid text; nothing was sent")
                self.failed = True
            elif line.startswith("/"):
                self._follow(line)
            elif line.strip():
                self._runner.run(self._turn(line, typed))

    def _follow(self, line: str) -> None:
        command, _, text = line.strip().partition(" ")
        if command == "/clear":
            self._messages.clear()
            self._session_id = new_id()
        elif command == "/system":
            self._system = text or None
        elif command == "/history":
            for message in self._messages:
                say(harmless(f"{message['role']}: {message.get('content') or ''}"))
        elif command == "/cancel":
            status.note("there is no answer to stop")
        elif command == "/help":
            say(HELP)
        else:
            status.complain(f"unknown command {command}; /help lists them")

    async def _turn(self, text: str, typed: Typed) -> None:
        """Send the question, print the answer, and keep both if the answer is whole."""
        asked = {"role": "user", "content": text}
        system = [] if self._system is None else [{"role": "system", "content": self._system}]
        messages = [*system, *self._messages, asked]
        ours = {"session_id": self._session_id, "include_reasoning": out().isatty()}
        task = make_task({**self._fields, **ours, "messages": messages})
        output = Output()
        stream = self._submit(task)
        cancels: list[asyncio.Task[bool]] = []
        with typed.watched("/cancel", lambda: cancels.append(asyncio.create_task(stream.cancel()))):
            failure, _ = await show_job(stream, output)
        await asyncio.gather(*cancels)
        self.failed = failure is not None and not isinstance(failure, Cancelled)
        if failure is None:
            assert output.answer is not None  # a job without failure has an End
            self._messages += [asked, output.answer.message().to_wire()]
            del self._messages[:-MAX_MESSAGES]
        elif self.failed:
            status.complain(self._words(str(failure)))
        else:
            status.note("stopped; the question is not part of the conversation")


def _is_text(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True
