"""`worker-adapters chat`: a conversation through pipes and on a terminal."""

import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.word_server import WordServer

Cli = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]
Serve = Callable[..., WordServer]
Until = Callable[[Callable[[], bool]], None]


def test_a_conversation_is_remembered(cli: Cli, engine: Callable[..., Any]) -> None:
    """Each question goes with what was said before, and one session keeps its replica."""
    server = engine("I see.")
    done = cli("chat", server.base_url, "--system", "Be brief.", stdin="One\n\nTwo\n")
    assert (done.code, done.out, done.err) == (0, "I see.\nI see.\n", "")
    first, second = (body["messages"] for body in server.bodies)
    system, one = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "One"}
    assert first == [system, one]
    said = {"role": "assistant", "content": "I see."}
    assert second == [system, one, said, {"role": "user", "content": "Two"}]


def test_the_commands_of_a_chat(cli: Cli, engine: Callable[..., Any]) -> None:
    """/history, /clear, /system and /help; what is none of them is named; /quit ends the chat."""
    server = engine("ok")
    lines = ["One", "/history", "/clear", "/system S", "Two", "/cancel", "/what", "/help", "/quit"]
    done = cli("chat", server.base_url, stdin="\n".join([*lines, "never sent"]))
    assert done.code == 0
    assert "user: One\nassistant: ok\n" in done.out
    assert "/quit          end the chat" in done.out
    assert "note: there is no answer to stop\n" in done.err
    assert "error: unknown command /what; /help lists them\n" in done.err
    assert [len(body["messages"]) for body in server.bodies] == [1, 2]


def test_a_failed_answer_is_not_remembered(cli: Cli, engine: Callable[..., Any]) -> None:
    """The error is shown, the chat continues, and the exit status reports the failure."""
    server = engine("half", whole=False)
    done = cli("chat", server.base_url, stdin="One\nTwo\n")
    assert done.code == 1
    assert done.err.count("STREAM_TRUNCATED") == 2
    assert [len(body["messages"]) for body in server.bodies] == [1, 1]


def test_wrong_usage(cli: Cli) -> None:
    """Options are checked before the first question."""
    assert "--max-tokens must be" in cli("chat", "http://127.0.0.1:1", "--max-tokens", "0").err
    assert "--pool needs the workers file" in cli("chat", "--pool", "p").err
    done = cli("chat", "http://127.0.0.1:1", "--base-url", "http://127.0.0.1:2")
    assert (done.code, "two addresses" in done.err) == (2, True)


def test_cancel_through_a_pipe(start: Start, serve: Serve, until: Until) -> None:
    """/cancel stops the answer that is being printed, and the next question is answered."""
    server = serve(delay_s=0.02, max_words=400)
    process = start("chat", server.base_url, "--max-tokens", "400", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write("long\n")
    process.stdin.flush()
    until(lambda: server.running == 1)
    process.stdin.write("/cancel\n")
    process.stdin.flush()
    until(lambda: server.running == 0)
    _, err = process.communicate("/quit\n", timeout=10)
    assert process.returncode == 0
    assert "note: stopped; the question is not part of the conversation" in err


class Pty:
    """A terminal with the chat on it."""

    def __init__(self, start: Start, url: str) -> None:
        self.ours, theirs = pty.openpty()
        more = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        self.process = start("chat", url, "--max-tokens", "400", **more)
        os.close(theirs)
        self.shown = b""

    def until(self, text: bytes) -> None:
        while text not in self.shown:
            self.shown += os.read(self.ours, 4096)
        self.shown = self.shown.partition(text)[2]

    def until_it_waits(self) -> None:
        """Wait until the prompt is read: a signal just before it would be seen at the next key."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "S":
            time.sleep(0.001)

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())


@pytest.fixture
def terminal(start: Start, serve: Serve) -> Iterator[Callable[[], tuple[Pty, WordServer]]]:
    """Starts a chat with a slow engine on a terminal."""
    made: list[Pty] = []

    def begin() -> tuple[Pty, WordServer]:
        server = serve(delay_s=0.02, max_words=400)
        made.append(Pty(start, server.base_url))
        return made[0], server

    yield begin
    for each in made:
        os.close(each.ours)


@pytest.mark.parametrize("how", ["/cancel", "Ctrl-C"])
def test_an_answer_is_stopped_on_a_terminal(
    terminal: Callable[[], tuple[Pty, WordServer]], until: Until, how: str
) -> None:
    """Ctrl-C or /cancel stops the answer only; Ctrl-D then ends the chat."""
    chat, server = terminal()
    chat.until(b"> ")
    chat.type("long\n")
    until(lambda: server.running == 1)
    if how == "/cancel":
        chat.type("/cancel\n")
    else:  # what a terminal sends for it
        chat.process.send_signal(signal.SIGINT)
    until(lambda: server.running == 0)
    chat.until(b"note: stopped")
    chat.until(b"> ")
    chat.type("\x04")
    assert chat.process.wait(10) == 0


def test_an_interrupt_at_the_prompt(terminal: Callable[[], tuple[Pty, WordServer]]) -> None:
    """The first Ctrl-C says how to end the chat, the second ends it."""
    chat, _ = terminal()
    chat.until(b"> ")
    chat.until_it_waits()
    chat.process.send_signal(signal.SIGINT)
    chat.until(b"/quit or Ctrl-D ends the chat")
    chat.until(b"> ")
    chat.until_it_waits()
    chat.process.send_signal(signal.SIGINT)
    assert chat.process.wait(10) == 130


def test_a_chat_in_a_pool(cli: Cli, tmp_path: Path) -> None:
    """--workers takes the replicas of a file."""
    path = tmp_path / "workers.toml"
    path.write_text(
        '[[replicas]]\npool = "p"\nreplica = "r"\nadapter = "mock"\noptions = { echo = true }\n'
    )
    done = cli("chat", "--workers", str(path), stdin="Say it\n")
    assert (done.code, done.out.strip()) == (0, "Say it")


def test_a_line_that_is_no_text(cli: Cli, engine: Callable[..., Any]) -> None:
    """It is refused rather than sent with characters lost; the conversation goes on."""
    server = engine("ok")
    done = cli("chat", server.base_url, stdin=b"caf\xe9\n")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: the line is not valid text; nothing was sent\n"
    assert server.bodies == []
