"""Discovery of installed adapters from metadata alone."""

import zipfile

import importlib_metadata
import pytest

from adapter_api import PROJECT
from registry import Registry
from registry.plugins.discovery import GROUP, AdapterRecord, module_and_attribute, scan


def test_group_is_the_project():
    """The entry-point group and pluggy's project have one name."""
    assert GROUP == PROJECT


def test_record_names_distribution_and_target(samples):
    """A record holds name, distribution, version and target (ORCH-3054)."""
    samples("acme_echo")
    record = AdapterRecord("acme-echo", "acme-echo", "1.2", "acme_echo:EchoAdapter")
    assert scan().find("acme-echo") == (record,)


def test_names_are_sorted(samples):
    """The names come sorted, whatever the order on the path."""
    samples("plane", "acme_echo")
    names = scan().names()
    assert names == sorted(names)
    assert {"acme-echo", "plane"} <= set(names)


def test_scan_imports_no_plugin(fresh_python):
    """Scanning imports none of the modules it finds (ORCH-3054)."""
    code = """
        import sys
        from registry.plugins.discovery import scan
        print(scan().names(), [name for name in sys.modules if name.startswith(("pack", "acme"))])
    """
    out = fresh_python(code, "acme_echo", "broken_pack")
    assert "'acme-echo'" in out
    assert out.endswith(" []")


def test_malformed_neighbour_affects_no_other(samples):
    """A distribution whose entry points cannot be parsed hides no adapter."""
    samples("malformed_neighbour", "acme_echo")
    assert scan().find("acme-echo")


def test_undecodable_neighbour_affects_no_other(site, caplog):
    """A distribution whose entry points are not text is skipped with a warning."""
    info = site.install("made-binary")
    (info / "entry_points.txt").write_bytes(b"[worker_adapters]\n\xff\xfe = a:b\n")
    site.install("made-good", "good = made_good:Adapter")
    assert scan().find("good")
    (record,) = caplog.records
    assert "made_binary" in record.getMessage()
    assert not record.exc_info
    with caplog.at_level("DEBUG", "worker_adapters.registry"):
        scan()
    assert caplog.records[-1].exc_info, "why is for the one who asks to debug"


@pytest.mark.parametrize("name", ["pack-malformed", "pack-without-target"])
def test_malformed_entry_is_a_broken_record(samples, name):
    """A malformed entry of our own group keeps its name and says what to write."""
    samples("broken_pack")
    (record,) = scan().find(name)
    assert record.problem is not None
    assert "name = module:Class" in record.problem
    assert scan().find("pack-ok")[0].problem is None


@pytest.mark.parametrize(
    "line", ["[[[", "[[[ = made:A", "= made:A", "!!", "!! = ??", "two words", "\x1b[31m = made:A"]
)
def test_lines_that_are_not_entries_offer_nothing(site, line):
    """The lines of a broken file are not adapter names."""
    site.install("made", f"{line}\ngood = made:A\nspaced name = made:B")
    names = scan().names()
    assert {"good", "spaced name"} <= set(names)
    assert {name for name in names if not name.replace("-", "").isalnum()} == {"spaced name"}
    assert not scan().find(line.partition("=")[0].strip())


def test_one_distribution_with_two_targets_is_broken(samples):
    """Two targets under one name in one distribution are that distribution's mistake."""
    samples("broken_pack")
    (record,) = scan().find("pack-twice")
    assert record.target == "pack_ok:OkAdapter and pack_wrong:WrongAdapter"
    assert "several targets" in str(record.problem)


def test_same_line_twice_is_one_offer(site):
    """A line that is there twice says nothing new."""
    site.install("made", "a = made_a:A\na = made_a:A\n# b = made_b:B")
    (record,) = scan().find("a")
    assert record.problem is None
    assert not scan().find("b")


def test_two_distributions_with_one_name(samples):
    """Both are found, and "distribution:name" picks one, spelt as PEP 503 allows."""
    samples("acme_echo", "rival_echo")
    catalogue = scan()
    assert [r.distribution for r in catalogue.find("acme-echo")] == ["acme-echo", "Rival_Echo"]
    assert [r.version for r in catalogue.find("rival.echo:acme-echo")] == ["0.9"]
    assert catalogue.find("absent:acme-echo") == ()
    assert catalogue.find("acme-echo:absent") == ()


def test_who_names_the_same_module(site):
    """Rivals are two distributions whose targets lie in one top-level package or module."""
    site.install("made-one", "a = made_pack.x:A\nb = made_alone:A\nc = made_alone.x:A")
    site.install("made-two", "a = made_pack:A")
    catalogue = scan()
    one, two = catalogue.find("a")
    assert catalogue.has_rivals(one)
    assert catalogue.has_rivals(two)
    assert not catalogue.has_rivals(catalogue.find("b")[0])


def test_first_on_the_path_shadows_the_same_distribution(site, another_site):
    """An older copy of a distribution further down the path is not seen, as with import."""
    site.install("made", "old = made_old:Old", version="1.0")
    another_site.install("made", "new = made_new:New", version="2.0")
    assert scan().find("new")
    assert not scan().find("old")


def test_leftover_without_metadata_shadows_nothing(site, tmp_path, monkeypatch):
    """Remains of a broken uninstallation do not hide the real distribution."""
    site.install("made", "a = made_a:A")
    leftover = tmp_path / "leftover" / "made-0.1.dist-info"
    leftover.mkdir(parents=True)
    monkeypatch.syspath_prepend(leftover.parent)
    assert [record.version for record in scan().find("a")] == ["1.0"]


def test_a_distribution_without_metadata_has_its_folders_name(site):
    """Name and version are those of the folder where METADATA is gone."""
    info = site.install("made-it", "a = made_a:A", version="2.1")
    (info / "METADATA").unlink()
    (record,) = scan().find("a")
    assert (record.distribution, record.version) == ("made_it", "2.1")


def test_metadata_that_cannot_be_decoded(site):
    """One Latin-1 byte costs neither the name nor a block for the distribution."""
    info = site.install("made-it", "a = made_a:A")
    (info / "METADATA").write_bytes("Name: made-it\nAuthor: Jos\u00e9\n".encode("latin-1"))
    (record,) = scan().find("made-it:a")
    assert record.distribution == "made_it"
    assert "a" not in Registry(blocked=["made-it:a"]).names()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.0", "2.0"),
        ("1.9", "1.10"),
        ("1.0rc1", "1.0"),
        ("1.0", "1.0.post1"),
        ("1.0.dev1", "1.0a1"),
    ],
)
def test_the_newer_of_two_in_one_folder_counts(site, caplog, old, new):
    """After `pip install --target --upgrade` the older one is shadowed, and reported."""
    for version in (new, old):
        site.install("made-it", f"v{version} = made_a:A", version=version)
    catalogue = scan()
    (record,) = catalogue.find(f"v{new}")
    assert not catalogue.find(f"v{old}")
    (note,) = catalogue.notes(record)
    assert f"{new} is used, and {old} is shadowed" in note
    assert note in caplog.text
    assert Registry().describe(f"v{new}", load=False).notes == (note,)


def test_a_byte_order_mark_hides_nothing(site):
    """Entry points that an editor saved with a BOM are found."""
    info = site.install("made-it", "a = made_a:A")
    text = (info / "entry_points.txt").read_text()
    (info / "entry_points.txt").write_text("\ufeff" + text, encoding="utf-8")
    assert scan().find("a")


def test_distribution_without_quick_name_is_found(site, monkeypatch):
    """A kind of distribution that lacks importlib_metadata's private name is read all the same."""
    site.install("made", "a = made_a:A")

    class Bare:
        def __init__(self, distribution: object) -> None:
            self.read_text = distribution.read_text
            self.metadata = distribution.metadata

    found = [Bare(d) for d in importlib_metadata.distributions() if d.read_text("METADATA")]
    monkeypatch.setattr(importlib_metadata, "distributions", lambda: found)
    assert [record.distribution for record in scan().find("a")] == ["made"]


def test_zipped_distribution_is_found(distributions, tmp_path, monkeypatch):
    """A wheel on sys.path, not unpacked, offers its adapters too."""
    wheel = tmp_path / "acme.zip"
    folder = distributions / "acme_echo"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder))
    monkeypatch.syspath_prepend(wheel)
    assert [record.version for record in scan().find("acme-echo")] == ["1.2"]


def test_target_is_split_with_and_without_extras():
    """A target's extras, which entry points may have, are not part of the attribute."""
    assert module_and_attribute("a.b : C.d [extra, more]") == ("a.b", "C.d")
