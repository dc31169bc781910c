"""Plugins whose code prints, exits, lacks a module or loops while it is loaded."""

import compileall
import io
import shutil
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout

import pytest

from adapter_api import AdapterLoadError
from registry import Registry
from registry.plugins.loading import _without_stdout


def reason_of(name: str) -> str:
    """Return why an adapter cannot be loaded."""
    with pytest.raises(AdapterLoadError) as caught:
        Registry().get(name, {})
    return caught.value.reason


def test_what_a_plugin_prints_goes_to_stderr(site, adapter_source):
    """Neither its import nor its constructor reaches a program's stdout."""
    source = "print('imported')\n" + adapter_source
    source += "\n    def __attrs_post_init__(self):\n        print('built')\n"
    site.install("made-it", "made = made_loud:Adapter", {"made_loud.py": source})
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        Registry().get("made", {})
        print("ours")
    assert out.getvalue() == "ours\n"
    assert err.getvalue() == "imported\nbuilt\n"


def test_other_threads_keep_their_stdout():
    """Loading in one thread diverts nothing that another one prints, however they overlap."""
    out, err = io.StringIO(), io.StringIO()
    inside, leave = threading.Barrier(3), threading.Event()

    def load() -> None:
        with _without_stdout():
            print("plugin")
            inside.wait(10)
            leave.wait(10)

    with redirect_stdout(out), redirect_stderr(err):
        before = sys.stdout
        threads = [threading.Thread(target=load) for _ in range(2)]
        for thread in threads:
            thread.start()
        inside.wait(10)
        print("ours")
        leave.set()
        for thread in threads:
            thread.join()
        assert sys.stdout is before
    assert (out.getvalue(), err.getvalue()) == ("ours\n", "plugin\n" * 2)


def test_a_plugin_that_requests_itself(site, adapter_source):
    """An import that needs its own result is named, and does not recurse."""
    source = "import registry\nregistry.Registry().get('made')\n" + adapter_source
    site.install("made-it", "made = made_self:Adapter", {"made_self.py": source})
    assert "requests 'made' from the registry while it is imported" in reason_of("made")


def test_a_plugin_that_requests_another_one(site, adapter_source):
    """A plugin may load another one while it is imported."""
    source = "import registry\nregistry.Registry().get('other', {})\n" + adapter_source
    modules = {"made_first.py": source, "made_other.py": adapter_source}
    site.install("made-it", "made = made_first:Adapter\nother = made_other:Adapter", modules)
    assert Registry().get("made", {}).name == "made"


def test_a_circular_import(site, adapter_source):
    """Modules that import each other are named as the cause."""
    modules = {
        "made_round/__init__.py": "from made_round.one import Adapter\n",
        "made_round/one.py": f"from made_round.two import x\n{adapter_source}",
        "made_round/two.py": "from made_round.one import Adapter\nx = 1\n",
    }
    site.install("made-it", "made = made_round:Adapter", modules)
    assert "import each other in a circle" in reason_of("made")


def test_a_missing_extra_is_named(site, adapter_source):
    """The error for a missing module names the extra that brings it."""
    source = "import made_absent\n" + adapter_source
    info = site.install("made-it", "made = made_extra:Adapter", {"made_extra.py": source})
    with (info / "METADATA").open("a") as metadata:
        metadata.write('Provides-Extra: fast\nRequires-Dist: made-absent>=2; extra == "fast"\n')
    assert "pip install 'made-it[fast]'" in reason_of("made")


def test_the_entry_points_own_extra_is_named(site, adapter_source):
    """An entry point with an extra names it where the requirement cannot be found."""
    source = "import made_absent\n" + adapter_source
    site.install("made-it", "made = made_own:Adapter [slow]", {"made_own.py": source})
    assert "pip install 'made-it[slow]'" in reason_of("made")


@pytest.mark.parametrize(
    ("requirement", "text"),
    [
        ("made-absent>=2", "made-it requires made-absent>=2, which is not installed"),
        ("attrs>=999", "made-it requires attrs>=999, and "),
        ("attrs>=1", ""),
        ('made-absent; python_version < "3"', ""),
    ],
)
def test_an_unmet_requirement_is_named(site, adapter_source, requirement, text):
    """An import that fails names what the distribution requires and does not find."""
    source = "from attrs import made_nothing\n" + adapter_source
    info = site.install("made-it", "made = made_unmet:Adapter", {"made_unmet.py": source})
    with (info / "METADATA").open("a") as metadata:
        metadata.write(f"Requires-Dist: {requirement}\n")
    reason = reason_of("made")
    assert "raised ImportError" in reason
    assert (text in reason) if text else ("requires" not in reason)


@pytest.mark.parametrize("ending", ["raise SystemExit(3)", "import os, sys; sys.exit()"])
def test_a_plugin_that_exits_at_import(site, adapter_source, ending):
    """It is that adapter's failure, and no other's."""
    site.install("made-it", "made = made_exit:Adapter", {"made_exit.py": ending})
    assert "raised SystemExit" in reason_of("made")


def test_an_image_with_compiled_files_only(site, another_site, adapter_source):
    """`.pyc` files where RECORD lists `.py` are the distribution's own, beside a second one."""
    for where, name in ((site, "one"), (another_site, "two")):
        # A file that stays, as `py.typed` does: something is listed, and no source is there.
        modules = {f"made_shared/{name}.py": adapter_source, f"made_shared/data/{name}": ""}
        where.install(f"made-{name}", f"{name} = made_shared.{name}:Adapter", modules, record=True)
        folder = where.folder / "made_shared"
        compileall.compile_dir(folder, legacy=True, quiet=1)
        (folder / f"{name}.py").unlink()
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    registry = Registry()
    assert [registry.get(name, {}).name for name in ("one", "two")] == ["one", "two"]
