"""Every snippet of the README and the docs does what it shows."""

import gc
import json
import logging
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from registry.cli.entry import run as command_line
from tests.project.serving import demo_served

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SERVER_IN_TEXT = "http://localhost:8000"

# Commands that .ci/run runs word for word, on a fresh machine, and that would nest here.
RUN_BY_CI = re.compile(r"-m venv|pip install|pytest|\.ci/run|nox|ruff|mypy|tests\.benchmarks")

# tests/registry/cli/test_new_adapter.py runs it word for word, and so does .ci/run.
TUTORIAL = "docs/tutorial/write-an-adapter.md"


@attrs.frozen
class Snippet:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _snippets() -> Iterator[Snippet]:
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"^```(\w*)([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            name = re.search(r'title="(\S+)"', match[2])
            file = "" if name is None else name[1]
            yield Snippet(str(page.relative_to(ROOT)), line, match[1], match[3], file)


ALL = list(_snippets())
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PYTHON = [s for s in ALL if s.language == "python"]
COMMANDS = [s for s in ALL if s.language in ("bash", "console")]
SHELL = [s for s in COMMANDS if s.page != TUTORIAL and not RUN_BY_CI.search(s.text)]


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """`worker-adapters demo --serve`, with a faster script, in place of localhost:8000."""
    fast = "from registry.cli import main; from registry.cli.commands import demo"
    fast += "; demo.DELAY_S = 0.001; main()"
    with demo_served([sys.executable, "-c", fast], ROOT) as url:
        yield url


@attrs.frozen
class Done:
    """The outcome of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture(params=["here", pytest.param("process", marks=pytest.mark.exhaustive)])
def run(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    server_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    """Runs a script or `worker-adapters` in an empty folder: in this process, or as a reader does.

    Processes prove what this one hides, such as a leak at exit, and take 20 times as long.
    """
    for name in [name for name in os.environ if name.startswith("ORCHD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ORCHD_OPENAI_URL", server_url)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)

    def here(program: str, *arguments: str, stdin: str = "") -> Done:
        text = tmp_path / "stdin"
        text.write_text(stdin)
        capfd.readouterr()
        with text.open() as file, monkeypatch.context() as patches:
            patches.setattr(sys, "stdin", file)
            patches.setattr(sys, "argv", [program, *arguments])
            try:
                if program == "worker-adapters":
                    code = command_line(arguments)
                else:
                    runpy.run_path(program, run_name="__main__")
                    code = 0
            except SystemExit as exc:
                code = exc.code if isinstance(exc.code, int) else 1
            gc.collect()  # leaks are warnings, and warnings are errors
        return Done(code, *capfd.readouterr())

    def process(program: str, *arguments: str, stdin: str = "") -> Done:
        module = ["-m", "registry.cli"] if program == "worker-adapters" else [program]
        done = subprocess.run(
            [sys.executable, "-W", "error", *module, *arguments],
            capture_output=True,
            input=stdin,
            text=True,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    before = {log: (log.level, log.propagate, list(log.handlers)) for log in _loggers()}
    yield here if request.param == "here" else process
    for log in _loggers():
        log.level, log.propagate, log.handlers = before.get(log, (logging.NOTSET, True, []))
        log.setLevel(log.level)  # and forget what is enabled


def _loggers() -> list[logging.Logger]:
    """Return the loggers that programs configure."""
    known = [name for name in logging.root.manager.loggerDict if name.startswith("worker_adapters")]
    return [logging.getLogger(name) for name in ("", *known)]


@pytest.mark.parametrize("snippet", PYTHON, ids=str)
def test_python_snippets_run(snippet: Snippet, server_url: str, tmp_path: Path, run: Run) -> None:
    """A Python block runs as a script without warnings, against a server where it names one."""
    script = tmp_path / "snippet.py"
    script.write_text(snippet.text.replace(SERVER_IN_TEXT, server_url))
    done = run(str(script))
    assert done.code == 0, done.err
    assert "not the whole answer" not in done.out


def test_structlog_renders_jobs(tmp_path: Path, run: Run) -> None:
    """The page's program writes our records and its own as the same lines, with what it binds."""
    (snippet,) = (one for one in PYTHON if "import structlog" in one.text)
    (tmp_path / "snippet.py").write_text(snippet.text)
    lines = [json.loads(line) for line in run(str(tmp_path / "snippet.py")).out.splitlines()]
    assert [line["event"] for line in lines][::2] == ["a question came", "the answer is whole"]
    assert {line["user"] for line in lines} == {"ada"}
    assert (lines[2]["correlation_id"], lines[2]["tokens_out"]) == ("request-7", 1)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example: Path, server_url: str, run: Run) -> None:
    """Each program in examples/ ends well, without warnings, against the demo's server."""
    done = run(str(example), server_url)
    assert done.code == 0, done.err
    assert done.out


@pytest.mark.parametrize("snippet", SHELL, ids=str)
def test_shell_snippets_run(snippet: Snippet, server_url: str, tmp_path: Path, run: Run) -> None:
    """Each command of a shell block succeeds, where the files stand that its page shows."""
    for shown in ALL:
        if shown.file and shown.page == snippet.page:
            (tmp_path / shown.file).write_text(shown.text.replace(SERVER_IN_TEXT, server_url))
    for line in snippet.text.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words and (snippet.language == "bash" or line.startswith("$ ")):
            words = [word.replace(SERVER_IN_TEXT, server_url) for word in words]
            stdin = ""
            if "<" in words:
                *words, _, name = words
                stdin = (tmp_path / name).read_text()
            if words[0] == "python":
                words = words[1:]  # a script of the page
            else:
                assert words[0] == "worker-adapters"
            done = run(*words, stdin=stdin)
            # The demo has no model: its one answer is not JSON, and the status says so.
            no_json = "--json-schema" in words and "unusable_json" in done.err
            assert done.code == int(no_json), f"{line}\n{done.out}{done.err}"


def test_commands_that_nest_stand_only_where_they_are_run() -> None:
    """Blocks that are not run here are on pages that .ci/run or the tutorial's test runs."""
    pages = {snippet.page for snippet in COMMANDS if snippet not in SHELL}
    assert pages == {"README.md", "CONTRIBUTING.md", TUTORIAL}


def test_the_readme_has_exactly_two_commands_to_begin_with() -> None:
    """The first bash block installs and shows it, the second runs the tests; .ci/run runs both."""
    blocks = [s.text.strip() for s in ALL if s.page == "README.md" and s.language == "bash"]
    assert blocks[0].endswith("worker-adapters demo")
    assert blocks[1].endswith("pytest")
    assert all("\n" not in block for block in blocks[:2])


def test_every_link_in_the_docs_leads_somewhere() -> None:
    """Relative links of the README and the docs name files that exist."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} -> {target}"
