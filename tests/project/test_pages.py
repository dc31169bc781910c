"""Pages say what the code says."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import adapter_api
from adapter_api import ErrorCode, __version__
from adapter_api.faults import FaultServer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_troubleshooting_covers_every_code() -> None:
    """Each error code is in one heading of the page, and no other word is."""
    page = (DOCS / "how-to" / "troubleshooting.md").read_text()
    headings = [line for line in re.findall(r"^## (.+)$", page, re.MULTILINE) if line.isupper()]
    named = [code for heading in headings for code in heading.split(", ")]
    assert sorted(named) == sorted(ErrorCode)


def test_the_promised_number_of_faults_is_the_real_one() -> None:
    """The page of promises counts the scenarios that are tested."""
    page = (DOCS / "explanation" / "promises.md").read_text()
    found = re.search(r"(\d+) fault scenarios", page)
    assert found is not None
    assert int(found[1]) == len(FaultServer().scenarios)


def test_every_page_is_reachable_from_the_index() -> None:
    """Following links from the index leads to each page."""
    seen: set[Path] = set()
    waiting = [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
        waiting += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert set(DOCS.rglob("*.md")) <= seen


def test_the_site_and_llms_txt_have_every_page() -> None:
    """The navigation of the site and the list for language models name each page once."""
    pages = sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
    navigation = (DOCS.parent / "mkdocs.yml").read_text().partition("nav:")[2]
    assert sorted(re.findall(r"\S+\.md", navigation)) == pages
    assert sorted(re.findall(r"\]\((\S+\.md)\)", (DOCS / "llms.txt").read_text())) == pages


def test_one_version_everywhere() -> None:
    """The changelog's newest section, and what new adapters require, are of this version."""
    series = ".".join(adapter_api.__version__.split(".")[:2])
    following = f"{series.split('.')[0]}.{int(series.split('.')[1]) + 1}"
    requirement = f"worker-adapters>={series},<{following}"
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == adapter_api.__version__
    template = ROOT / "registry" / "cli" / "templates" / "common" / "pyproject.toml.txt"
    for file in (template, DOCS / "reference" / "http-util.md"):
        assert requirement in file.read_text(), file


def test_the_site_reads_every_fence() -> None:
    """A title without quotes would make a block of code a paragraph of the site."""
    fence = re.compile(r'```(\w+( title="[^"]+")?)?')
    for page in DOCS.rglob("*.md"):
        for line in re.findall(r"^```.*$", page.read_text(), re.MULTILINE):
            assert fence.fullmatch(line), f"{page.name}: {line}"


def test_the_site_keeps_earlier_versions(tmp_path: Path) -> None:
    """Putting a built site beside others keeps them, and lists the newest first."""
    built, root = tmp_path / "build" / "site", DOCS.parent
    built.mkdir(parents=True)
    (built / "index.html").write_text("new")
    for path in (".ci/site", "adapter_api/version.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(root / path, tmp_path / path)
    docs = tmp_path / "docs"
    for old in ("0.0.9", "0.0.10"):
        (docs / old).mkdir(parents=True)
        (docs / old / "index.html").write_text("old")
    for _ in range(2):
        subprocess.run([sys.executable, tmp_path / ".ci/site", docs], check=True)
    listed = [each["version"] for each in json.loads((docs / "versions.json").read_text())]
    assert listed == [__version__, "0.0.10", "0.0.9"]
    assert (docs / __version__ / "index.html").read_text() == "new"
    assert f"url={__version__}/" in (docs / "index.html").read_text()
