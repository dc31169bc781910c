"""`worker-adapters submit`, through the real openai-http adapter, against servers on loopback."""

import json
import os
import signal
import socket
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest

from tests.word_server import WordServer

Cli = Callable[..., Any]
Serve = Callable[..., WordServer]


def test_the_text_is_streamed(cli: Cli, serve: Serve) -> None:
    """A prompt gives the engine's text and a line feed, nothing else, and status 0."""
    url = serve().base_url
    done = cli("submit", "hello", "--base-url", url, "--max-tokens", "6", "--seed", "1")
    assert done.code == 0
    assert len(done.out.split()) == 6
    assert done.out.count("\n") == 1
    assert done.out.endswith("\n")
    assert done.err.startswith(
        "note: the answer was cut off by the limit on tokens (--max-tokens 6)"
    )
    assert done.err.count("\n") == 1


def test_the_address_as_an_argument(cli: Cli, engine: Callable[..., Any]) -> None:
    """The URL stands behind the prompt, as in other commands; two different ones are refused."""
    url = engine("a", "b").base_url
    assert cli("submit", "hi", url).out == "ab\n"
    done = cli("submit", "hi", url, "--base-url", "http://127.0.0.1:1")
    assert (done.code, "two addresses" in done.err) == (2, True)


def test_the_seed_decides(cli: Cli, serve: Serve) -> None:
    """Two seeded runs print the same bytes, another seed prints others (WA-INT-3006)."""
    url = serve().base_url
    runs = [cli("submit", "hi", "--base-url", url, "--seed", seed).out for seed in "112"]
    assert runs[0] == runs[1] != runs[2]


def test_frames(cli: Cli, serve: Serve) -> None:
    """--frames prints started, token*, end as JSON lines (ADAPT-3001)."""
    url = serve().base_url
    done = cli("submit", "hi", "--base-url", url, "--frames", "--max-tokens", "3")
    frames = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 0
    assert [frame["type"] for frame in frames] == ["started", "token", "token", "token", "end"]
    assert frames[0]["engine_version"] == "words-1.0"
    assert frames[-1]["metrics"]["usage_source"] == "engine"


def test_what_is_typed_reaches_the_engine(cli: Cli, engine: Callable[..., Any]) -> None:
    """Model, limits, sampling and stop texts are in the request's body (OC-ADAPT-OAI 6001)."""
    server = engine("ok")
    arguments = ["--model", "m", "--max-tokens", "3", "--temperature", "0.5", "--top-p", "0.9"]
    arguments += ["--seed", "7", "--stop", "a", "--stop", "b"]
    assert cli("submit", "hi", "--base-url", server.base_url, *arguments).out == "ok\n"
    body = server.bodies[0]
    given = {"model": "m", "prompt": "hi", "max_tokens": 3, "temperature": 0.5, "top_p": 0.9}
    assert body | given | {"seed": 7, "stop": ["a", "b"]} == body


def test_a_chat(cli: Cli, serve: Serve, engine: Callable[..., Any]) -> None:
    """--chat sends the prompt as one user message to the chat endpoint, which answers."""
    server = engine("ok")
    cli("submit", "hi", "--base-url", server.base_url, "--chat")
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "hi"}]
    done = cli("submit", "hi", "--base-url", serve().base_url, "--chat", "--max-tokens", "4")
    assert (done.code, len(done.out.split())) == (0, 4)


def test_the_prompt_from_standard_input(cli: Cli, engine: Callable[..., Any]) -> None:
    """With - the prompt is what standard input holds, to the last byte."""
    server = engine("ok")
    done = cli("submit", "-", "--base-url", server.base_url, stdin="zwei\nZeilen: ü\n")
    assert done.code == 0
    assert server.bodies[0]["prompt"] == "zwei\nZeilen: ü\n"


def test_a_line_feed_at_the_end_is_not_doubled(cli: Cli, engine: Callable[..., Any]) -> None:
    """A text that ends its line itself gets no second line feed."""
    assert cli("submit", "-", "--base-url", engine("a\n").base_url).out == "a\n"


def test_an_answer_without_text_prints_nothing(cli: Cli, engine: Callable[..., Any]) -> None:
    """A whole answer may be empty; the remark tells it from a command that does nothing."""
    done = cli("submit", "hi", "--base-url", engine().base_url)
    assert (done.code, done.out, done.err) == (0, "", "note: the answer has no text\n")


def test_half_surrogates_are_printed_as_a_mark(cli: Cli, engine: Callable[..., Any]) -> None:
    """Text that JSON can hold and a file cannot does not end in a traceback."""
    url = engine("a\ud800b").base_url
    done = cli("submit", "hi", "--base-url", url)
    assert done.code == 0
    assert done.out.startswith("a")
    assert done.out.endswith("b\n")


def test_the_environment_is_enough(cli: Cli, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --base-url the server and its key come from the environment."""
    monkeypatch.setenv("ORCHD_OPENAI_URL", serve(api_key="sk-secret").base_url)
    refused = cli("submit", "hi")
    assert refused.code == 1
    assert refused.err.startswith("error: UPSTREAM_AUTH: ")
    monkeypatch.setenv("ORCHD_OPENAI_API_KEY", "sk-secret")
    assert cli("submit", "hi", "--option", "stall_timeout_s=5").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--max-tokens", "0"], 2, "--max-tokens must be an integer of at least 1, got 0"),
        (["--max-tokens", "many"], 2, "invalid value for '--max-tokens'"),
        (["--temperature", "-1"], 2, "--temperature must be"),
        (["--option", "nonsense=1"], 2, "--option nonsense: unknown option"),
        (["--option", "stall_timeout_s=soon"], 2, "--option stall_timeout_s: expected float"),
        (["--unheard-of"], 2, "no such option: --unheard-of"),
        (["--adapter", "openai-htp"], 3, "did you mean 'openai-http'?"),
    ],
)
def test_wrong_usage(cli: Cli, arguments: list[str], code: int, said: str) -> None:
    """Invalid arguments give one clear line and status 2; nothing is sent."""
    done = cli("submit", "hi", "--base-url", "http://127.0.0.1:1", *arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["-"], ["a\udcff"]])
def test_a_prompt_that_is_not_text(cli: Cli, arguments: list[str]) -> None:
    """Bytes that are not text, typed or from standard input, are refused."""
    done = cli("submit", *arguments, "--base-url", "http://127.0.0.1:1", stdin=b"\xff")
    assert done.code == 2
    assert "not valid text" in done.err


def test_an_address_in_the_place_of_the_prompt(cli: Cli) -> None:
    """`git diff | worker-adapters submit URL` says what is missing, and sends nothing."""
    done = cli("submit", "http://127.0.0.1:1", stdin="the prompt")
    assert (done.code, done.out) == (2, "")
    assert "http://127.0.0.1:1 was taken for the prompt" in done.err
    assert "- for standard input" in done.err


def test_a_refused_key(cli: Cli, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice names the variable: a key is never an option of the command line."""
    monkeypatch.setenv("ORCHD_OPENAI_API_KEY", "sk-wrong")
    done = cli("submit", "hi", serve(api_key="sk-secret").base_url)
    assert done.code == 1
    assert "Set ORCHD_OPENAI_API_KEY to a key" in done.err
    assert "api_key" not in done.err


def test_a_key_of_another_server(cli: Cli, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice names the variable of the address: a key cannot be given beside it."""
    monkeypatch.setenv("ORCHD_OPENAI_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ORCHD_OPENAI_API_KEY", "sk-secret")
    done = cli("submit", "hi", serve(api_key="sk-secret").base_url)
    assert done.code == 1
    assert "No key was sent." in done.err
    assert "Set ORCHD_OPENAI_URL to the address of this one" in done.err
    assert "api_key" not in done.err


def test_without_a_prompt(cli: Cli) -> None:
    """A missing argument is one line that says where to look."""
    done = cli("submit")
    assert done.code == 2
    assert done.err.lower().startswith("error: missing argument prompt")


@pytest.mark.parametrize("frames", [True, False])
def test_no_server_answers(cli: Cli, frames: bool) -> None:
    """A server that is not there fails the job: status 1, as an error frame too (WA-INT-3008)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    done = cli("submit", "hi", "--base-url", url, *["--frames"] * frames)
    assert done.code == 1
    assert done.err.startswith("error: POOL_UNAVAILABLE: ")
    assert done.err.count("\n") == 1
    codes = [json.loads(line)["code"] for line in done.out.splitlines()]
    assert codes == ["POOL_UNAVAILABLE"] * frames


def test_half_an_answer_is_called_so(cli: Cli, engine: Callable[..., Any]) -> None:
    """A stream that is cut off keeps its text, on a line of its own, and fails with a warning."""
    done = cli("submit", "hi", "--base-url", engine("half", " an", whole=False).base_url)
    assert (done.code, done.out) == (1, "half an\n")
    assert done.err.startswith("error: STREAM_TRUNCATED: ")
    assert done.err.endswith("; what was printed is not the whole answer\n")


def test_a_deadline(cli: Cli, serve: Serve) -> None:
    """--deadline ends the job, in time, with its own code."""
    url = serve(delay_s=0.05).base_url
    done = cli("submit", "hi", "--base-url", url, "--deadline", "0.5")
    assert done.code == 1
    assert "DEADLINE_UNMET" in done.err
    assert "not the whole answer" in done.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_job(
    cli: Cli, serve: Serve, until: Callable[..., None], number: signal.Signals, code: int
) -> None:
    """The stream ends with CANCELLED, the engine stops, and the handlers are as before."""
    server = serve(delay_s=0.02)
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def send() -> None:
        until(lambda: server.running == 1)
        os.kill(os.getpid(), number)

    sender = Thread(target=send)
    sender.start()
    done = cli("submit", "hi", "--base-url", server.base_url, "--frames")
    sender.join()
    assert done.code == code
    assert json.loads(done.out.splitlines()[-1])["code"] == "CANCELLED"
    assert done.err.startswith("error: cancelled")
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    until(lambda: server.running == 0)


def test_basic_authentication_is_an_option_and_part_of_a_url(
    cli: Cli, engine: Callable[..., Any]
) -> None:
    """A reverse proxy in front of the engine: neither way needs code, and nothing shows it."""
    server = engine("ok")
    with_user = server.base_url.replace("http://", "http://me:hunter2-pw@")
    for arguments in (
        ["--base-url", server.base_url, "-o", "basic_auth=me:hunter2-pw"],
        ["--base-url", with_user],
    ):
        done = cli("submit", "hi", *arguments)
        assert done.out == "ok\n"
        assert "hunter2" not in done.err
    assert server.authorizations == ["Basic bWU6aHVudGVyMi1wdw=="] * 2
