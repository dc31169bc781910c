"""`worker-adapters new-adapter`: what it writes is installed and proved in a fresh environment."""

import ast
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.cli.commands.new_adapter import rendered

Cli = Callable[..., Any]
ROOT = Path(__file__).parents[3]
TUTORIAL = ROOT / "docs" / "tutorial" / "write-an-adapter.md"
BLOCK = re.compile(r"^```(bash|diff|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# pip takes nothing from a network, and builds with the hatchling that is borrowed.
OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_NO_DEPS": "1",
    "PIP_NO_BUILD_ISOLATION": "0",
    "PIP_QUIET": "0",
}


def _try(*command: str | Path, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | OFFLINE
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )


def _run(*command: str | Path, cwd: Path, **more: str) -> str:
    done = _try(*command, cwd=cwd, **more)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def _wheel(project: Path, into: Path) -> Path:
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", into, cwd=project)
    return max(into.glob("*.whl"), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new virtual environment with our wheel in it.

    What we depend on is borrowed from the environment that runs this, so that no test needs a
    network; our own code there is hidden by the wheel, which comes first.
    """
    place = tmp_path_factory.mktemp("fresh")
    _run(sys.executable, "-m", "venv", place / "venv", cwd=place)
    programs = place / "venv" / "bin"
    packages = next((place / "venv").glob("lib/python*/site-packages"))
    (packages / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"])
    pytest_program = programs / "pytest"  # borrowed too: pip would have written it
    # The borrowed plugins are not what a newcomer has.
    code = "import os, sys\nos.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'\n"
    code += "import pytest\nsys.exit(pytest.console_main())\n"
    pytest_program.write_text(f"#!{programs / 'python'}\n{code}")
    pytest_program.chmod(0o755)
    _run(programs / "pip", "install", _wheel(ROOT, place), cwd=place)
    return programs


@pytest.mark.exhaustive
@pytest.mark.parametrize("arguments", [("acme-plain",), ("beta-two-http", "--http")], ids=str)
def test_a_new_adapter_installs_and_passes_the_kit_at_once(
    arguments: tuple[str, ...], fresh: Path, serve: Callable[..., Any], tmp_path: Path
) -> None:
    """A newcomer's first minutes: write, then what is printed, then the README, then a wheel
    (ADAPT-3000, ORCH-3054)."""
    name, project = arguments[0], tmp_path / arguments[0]
    said = _run(fresh / "worker-adapters", "new-adapter", *arguments, cwd=tmp_path)
    files, _, commands = said.partition("\nNext:\n")
    assert f"{name}/pyproject.toml" in files
    forgotten = _try(fresh / "pytest", name, cwd=tmp_path)
    assert f"no adapter named '{name}'" in forgotten.stdout
    assert "Install the distribution" in forgotten.stdout
    assert "Traceback" not in forgotten.stdout
    assert "site-packages" not in forgotten.stdout

    installed, tested, proved = (_run(*shlex.split(c), cwd=tmp_path) for c in commands.splitlines())
    assert "Successfully installed" in installed
    assert re.search(r"\d passed", tested)
    assert (project / "conformance-report" / f"{name}.md").exists()
    assert f"{name} conforms to version" in proved

    path = f"{fresh}{os.pathsep}{os.environ['PATH']}"
    for line in _readme(project, serve().base_url):
        assert _run(*line, cwd=project, PATH=path)

    _run(fresh / "pip", "install", "--force-reinstall", _wheel(project, tmp_path), cwd=tmp_path)
    assert f"{name}\tworker-adapters-{name}\t0.1.0\tinstalled" in _run(
        fresh / "worker-adapters", "list", cwd=tmp_path
    )
    assert _run(fresh / "worker-adapters", "check", name, cwd=tmp_path).endswith("ok\n")


def _readme(project: Path, url: str) -> Iterator[list[str]]:
    """The commands of a README, without those that were printed and run."""
    lines = [
        line
        for _, text in BLOCK.findall((project / "README.md").read_text())
        for line in text.splitlines()
    ]
    assert len(lines) == 6
    for line in lines:
        if not re.match(r"pip |pytest|worker-adapters conformance", line):
            yield shlex.split(line.replace("http://localhost:8000", url))


@pytest.mark.exhaustive
def test_the_tutorial_word_for_word(fresh: Path, tmp_path: Path) -> None:
    """The tutorial's commands and changes end with an installed adapter that conforms and answers;
    deliberate mistakes are reported as on the page."""
    (tmp_path / ".venv").symlink_to(fresh.parent)
    adapter = tmp_path / "build" / "acme-echo" / "acme_echo" / "adapter.py"
    outputs: list[str] = []
    right = ""
    for kind, text in BLOCK.findall(TUTORIAL.read_text()):
        lines = text.splitlines()
        if kind == "bash":
            outputs += [_run(*shlex.split(line), cwd=tmp_path) for line in lines]
        elif kind == "diff":
            right = adapter.read_text()
            before, after = (
                "\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+"
            )
            assert right.count(before) == 1
            adapter.write_text(right.replace(before, after))
        else:
            done = _try(*shlex.split(lines[0].removeprefix("$ ")), cwd=tmp_path)
            assert done.returncode != 0
            assert "\n".join(lines[1:]) in done.stdout
            adapter.write_text(right)
    assert len(outputs) == 9
    assert "acme-echo conforms to version" in outputs[5]
    assert outputs[6].strip() == "say it again"
    assert outputs[8].strip() == "again it say"
    assert "conforms" in _run(fresh / "worker-adapters", "conformance", "acme-echo", cwd=tmp_path)


def _imports(text: str) -> set[str]:
    """The top-level names of what a module imports."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found - sys.stdlib_module_names


@pytest.mark.parametrize("http", [False, True])
def test_everything_imported_is_declared(http: bool) -> None:
    """What the adapter imports are its dependencies, and what its tests import besides is in the
    extra; none relies on what others happen to install."""
    ours = {"adapter_api", "adapters", "registry"}
    written = dict(rendered("acme-echo", "worker-adapters-acme-echo", http=http))
    project = tomllib.loads(written["pyproject.toml"])["project"]
    needed = {re.split(r"[^\w-]", text)[0] for text in project["dependencies"]}
    tested = {re.split(r"[^\w-]", text)[0] for text in project["optional-dependencies"]["test"]}
    used, used_in_tests = (
        {
            "worker-adapters" if name in ours else name
            for path, text in written.items()
            if path.startswith(folder) and path.endswith(".py")
            for name in _imports(text)
        }
        for folder in ("acme_echo/", "tests/")
    )
    assert used - {"acme_echo"} == needed
    assert used_in_tests <= needed | tested


LEFT_OVER = ("acme", "Acme", "ACME", "#HTTP", "#URL", "#WIRE", "#PROTOCOL", "DISTRIBUTION")


@pytest.mark.parametrize("http", [False, True])
@pytest.mark.parametrize("name", ["x1", "my-own-engine", "the-engine-of-a-large-company"])
def test_what_is_written_is_tidy(name: str, http: bool, cli: Cli, tmp_path: Path) -> None:
    """Everything compiles, no name of the template is left, nothing is forgotten, no line is too
    long."""
    folder, package = tmp_path / "new", name.replace("-", "_")
    arguments = ["new-adapter", name, "--into", str(folder), *["--http"] * http]
    done = cli(*arguments)
    assert done.code == 0
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        ".github/workflows/ci.yml",
        ".gitignore",
        "README.md",
        f"{package}/__init__.py",
        f"{package}/adapter.py",
        f"{package}/py.typed",
        *([f"{package}/wire.py"] if http else []),
        "pyproject.toml",
        "tests/test_conformance.py",
    }
    for path, text in rendered(name, f"worker-adapters-{name}", http=http):
        assert (folder / path).read_text() == text
        assert not any(
            word in text
            for word in (
                "acme",
                "Acme",
                "ACME",
                "#HTTP",
                "#URL",
                "#WIRE",
                "#PROTOCOL",
                "DISTRIBUTION",
            )
        )
        if path.endswith(".py"):
            compile(text, path, "exec")
            assert max(map(len, text.splitlines())) <= 100
    assert ("httpx" in (folder / "pyproject.toml").read_text()) is http
    assert (package + "/wire.py" in (folder / "README.md").read_text()) is http
    title = "".join(map(str.capitalize, name.split("-")))
    assert f"class {title}Adapter" in (folder / package / "adapter.py").read_text()


def test_the_next_commands_are_of_this_environment(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed commands work from the user's folder, with the programs beside ours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    done = cli("new-adapter", "my-own-engine", "--into", "a place/new")
    assert done.out.splitlines()[-4:] == [
        "Next:",
        "  .venv/bin/pip install -e 'a place/new[test]'",
        "  .venv/bin/pytest 'a place/new'",
        "  .venv/bin/worker-adapters conformance my-own-engine",
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Acme Echo", "such as acme-echo"),
        ("acme_echo", "such as acme-echo"),
        ("acme--echo", "such as acme-echo"),
        ("2acme", "lower-case"),
        ("", "lower-case"),
        ("-acme", "no such option"),
        ("class", "class is a keyword of Python"),
        ("test-conformance", "another Python module"),
        ("tests", "another Python module"),
        ("dist", "many tools ignore a folder named dist"),
        ("build", "many tools ignore a folder named build"),
        ("json", "another Python module"),
        ("registry", "another Python module"),
        ("worker-adapters", "another Python module"),
        ("mock", "an adapter named mock is installed already"),
        ("openai", "openai is the module of a well-known package"),
        ("httpx", "httpx is the module of a well-known package"),
        ("pytest-asyncio", "a distribution named pytest-asyncio"),
        ("typing-extensions", "a distribution named typing-extensions"),
    ],
)
def test_a_name_that_cannot_be_used(name: str, reason: str, cli: Cli, tmp_path: Path) -> None:
    """The reason is one line, and nothing is written."""
    done = cli("new-adapter", name, "--into", str(tmp_path / "new"))
    assert done.code == 2
    assert reason in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_name_that_is_taken_can_be_forced(cli: Cli, tmp_path: Path) -> None:
    """--force allows an existing name or folder; a name that can never work is still
    refused."""
    assert cli("new-adapter", "mock", "--force", "--into", str(tmp_path / "new")).code == 0
    assert cli("new-adapter", "json", "--force", "--into", str(tmp_path / "other")).code == 2


def test_nothing_is_overwritten(cli: Cli, tmp_path: Path) -> None:
    """A folder with something in it is left alone."""
    (tmp_path / "mine.txt").write_text("mine")
    done = cli("new-adapter", "acme-echo", "--into", str(tmp_path))
    assert done.code == 2
    assert "not empty" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_is_not_a_folder(cli: Cli, tmp_path: Path) -> None:
    """Also where it is empty, and where it stands in the way of the folder."""
    file = tmp_path / "afile"
    file.write_text("")
    done = cli("new-adapter", "acme-echo", "--into", str(file))
    assert done.code == 2
    assert f"{file} is not a folder" in done.err
    done = cli("new-adapter", "acme-echo", "--into", str(file / "below"))
    assert done.code == 2
    assert str(file) in done.err


def test_what_git_leaves_out_is_at_the_top() -> None:
    """A package of the author's that is called dist is theirs, and not what a build left."""
    lines = dict(rendered("acme-echo", "worker-adapters-acme-echo", http=False))[
        ".gitignore"
    ].splitlines()
    assert {"/dist/", "/.venv/", "/conformance-report/"} <= set(lines)
