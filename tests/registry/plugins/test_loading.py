"""Loading: whatever a plugin does at import or construction is an error that names it."""

import pickle
import sys

import pytest

from adapter_api import AdapterLoadError, ContractError
from registry import Registry
from registry.plugins.discovery import AdapterRecord, scan
from registry.plugins.loading import build, load


def record_of(name: str) -> AdapterRecord:
    """The only record of that name."""
    (record,) = scan().find(name)
    return record


def load_and_build(name: str) -> object:
    """The adapter's object, with the defaults of its config."""
    loaded = load(record_of(name))
    return build(loaded, loaded.config_class())


def test_good_adapter_loads(samples):
    """A class that fulfils the contract comes with its config class (ORCH-3054)."""
    samples("acme_echo")
    loaded = load(record_of("acme-echo"))
    assert loaded.cls.__name__ == "EchoAdapter"
    adapter = build(loaded, loaded.config_class(times=2))
    assert adapter.config.times == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pack-no-module", "there is no module pack_absent: the entry point of broken-pack"),
        ("pack-no-submodule", "there is no module pack_ok.absent"),
        ("pack-no-dependency", "needs the module pack_dependency_that_is_absent, which is not"),
        ("pack-no-attribute", "pack_ok has no OkAdaptor; did its author mean OkAdapter?"),
        ("pack-exits", "importing pack_exits raised SystemExit: 3"),
        ("pack-malformed", "its entry point is malformed"),
        ("pack-twice", "several targets"),
    ],
)
def test_each_failure_says_why(samples, name, reason):
    """Each way to fail has a reason, and the error names adapter, distribution, version and
    target."""
    samples("broken_pack")
    record = record_of(name)
    with pytest.raises(AdapterLoadError) as caught:
        load(record)
    error = caught.value
    assert reason in error.reason
    assert (error.name, error.distribution, error.version) == (name, "broken-pack", "2.0")
    assert error.target == record.target
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_contract_problems_come_together(samples):
    """A wrong class is a ContractError with all its problems."""
    samples("broken_pack")
    with pytest.raises(ContractError) as caught:
        load(record_of("pack-wrong-class"))
    assert len(caught.value.problems) >= 3
    assert "did you mean it by sumbit?" in str(caught.value)
    assert "no config class" in str(caught.value)
    assert (caught.value.distribution, caught.value.version) == ("broken-pack", "2.0")
    assert ", from broken-pack 2.0)" in str(caught.value)


def test_failures_affect_no_other_adapter(samples):
    """After all the broken ones, the good one beside them loads."""
    samples("broken_pack")
    names = [name for name in scan().names() if name.startswith("pack-") and name != "pack-ok"]
    assert len(names) == 10
    for name in names:
        with pytest.raises((AdapterLoadError, ContractError)):
            load_and_build(name)
    assert load(record_of("pack-ok")).cls.__name__ == "OkAdapter"


def test_constructor_that_exits(samples):
    """SystemExit in a constructor is a load error, and its text shows no secret option."""
    samples("broken_pack")
    loaded = load(record_of("pack-wrong-config"))
    with pytest.raises(AdapterLoadError) as caught:
        build(loaded, loaded.config_class(token="hunter2"))
    assert "building it raised SystemExit: bad token [hidden]" in str(caught.value)
    assert "hunter2" not in repr(caught.value.__cause__) + repr(caught.value.__context__)


def test_constructor_failure_keeps_its_cause(site, adapter_source):
    """A failure that quotes no secret keeps the exception it came from."""
    source = adapter_source + "\n    def __attrs_post_init__(self): raise OSError('no disk')\n"
    site.install("made", "a = made_fails:Adapter", {"made_fails.py": source})
    loaded = load(record_of("a"))
    with pytest.raises(AdapterLoadError, match="building it raised OSError: no disk") as caught:
        build(loaded, loaded.config_class())
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("place", ["import", "attribute", "constructor"])
def test_keyboard_interrupt_passes(site, adapter_source, place):
    """Ctrl-C during any part of loading is the user's, not the plugin's."""
    source = {
        "import": "raise KeyboardInterrupt",
        "attribute": "def __getattr__(name): raise KeyboardInterrupt",
        "constructor": adapter_source
        + "\n    def __attrs_post_init__(self): raise KeyboardInterrupt\n",
    }[place]
    site.install("made", f"a = made_{place}:Adapter", {f"made_{place}.py": source})
    with pytest.raises(KeyboardInterrupt):
        load_and_build("a")


def test_missing_attribute_without_a_near_one(site):
    """A module without a similar attribute gets no suggestion."""
    site.install("made", "a = made_empty:Adapter", {"made_empty.py": "x = 1"})
    with pytest.raises(AdapterLoadError, match=r"made_empty has no Adapter$"):
        load(record_of("a"))


def test_missing_attribute_of_a_class(site):
    """A target may lie within a class; the class is named when it lacks it."""
    source = "class Outer:\n    Inner = 1\n"
    site.install("made", "a = made_outer:Outer.Iner", {"made_outer.py": source})
    with pytest.raises(AdapterLoadError, match="Outer'> has no Iner; did its author mean Inner"):
        load(record_of("a"))


def test_attribute_lookup_that_fails(site):
    """A lookup may raise anything."""
    source = "def __getattr__(name): raise SystemExit(name)"
    site.install("made", "a = made_lookup:Adapter", {"made_lookup.py": source})
    with pytest.raises(AdapterLoadError, match="looking up Adapter in made_lookup raised"):
        load(record_of("a"))


def test_check_that_fails(site):
    """A class that cannot even be looked at is a load error."""
    source = """
        class Meta(type):
            @property
            def API_VERSION(cls): raise RuntimeError("no")
        class Adapter(metaclass=Meta): ...
    """
    site.install("made", "a = made_meta:Adapter", {"made_meta.py": source})
    with pytest.raises(AdapterLoadError, match="checking it raised RuntimeError: no"):
        load(record_of("a"))


def test_missing_module_without_a_name(site):
    """A ModuleNotFoundError that was raised by hand has no name and is quoted."""
    source = "raise ModuleNotFoundError('install the other thing')"
    site.install("made", "a = made_hand:Adapter", {"made_hand.py": source})
    with pytest.raises(AdapterLoadError, match="raised ModuleNotFoundError: install the other"):
        load(record_of("a"))


def test_long_reason_is_cut(site):
    """A plugin's exception may hold a book; the message does not."""
    site.install("made", "a = made_long:A", {"made_long.py": "raise ValueError('x' * 10_000)"})
    with pytest.raises(AdapterLoadError) as caught:
        load(record_of("a"))
    assert len(caught.value.reason) < 400
    assert caught.value.reason.endswith("...")


# Foreign packages


def test_foreign_adapters_package_is_named(fresh_python):
    """A regular package named `adapters` hides our namespace: the message names whose it is."""
    code = """
        import registry
        try:
            registry.get("plane")
        except registry.AdapterLoadError as error:
            print(error)
    """
    out = fresh_python(code, "adapters_intruder", "plane")
    assert "hides the namespace package of the same name that holds adapters.plane" in out
    assert "of the distribution adapters 3.0" in out
    assert "uninstall adapters or keep plane in an environment of its own" in out


def test_namespace_without_an_intruder_loads(fresh_python):
    """The same adapter loads where no such package is."""
    out = fresh_python("import registry; print(registry.get('plane').distribution)", "plane")
    assert out == "plane"


def hidden(site, another_site, source: str = "", **options: bool) -> str:
    """The message where a regular package comes before the namespace package that is wanted."""
    modules = {"made_space/part.py": "class Adapter: ..."}
    site.install("made-part", "a = made_space.part:Adapter", modules, **options)
    foreign = {"made_space/other.py": "", "made_space/__init__.py": source}
    another_site.install("made-foreign", "", foreign, **options)
    with pytest.raises(AdapterLoadError) as caught:
        load(record_of("a"))
    return str(caught.value)


def test_hiding_package_of_a_distribution(site, another_site):
    """The hiding_package is found by the files that its distribution recorded."""
    text = hidden(site, another_site, record=True)
    assert "of the distribution made-foreign 1.0, hides the namespace package" in text
    assert "uninstall made-foreign or keep made-part in an environment of its own" in text


def test_hiding_package_that_comes_later_on_the_path(site, another_site):
    """A regular package wins over a namespace wherever it stands, and its owner is found too."""
    text = hidden(another_site, site, record=True)
    assert "of the distribution made-foreign 1.0, hides the namespace package" in text


def test_hiding_package_of_no_distribution(site, another_site):
    """A folder of the user's own can hide a namespace package too."""
    text = hidden(site, another_site)
    assert str(another_site.folder / "made_space" / "__init__.py") in text
    assert "of no distribution, hides" in text
    assert "rename or remove it, or keep made-part" in text


def test_hiding_package_that_cannot_be_imported(site, another_site):
    """An hiding_package that fails by itself is still what stands in the way; its error is
    quoted."""
    text = hidden(site, another_site, "import made_absent_dependency", record=True)
    assert "hides the namespace package" in text
    assert "ModuleNotFoundError: No module named 'made_absent_dependency'" in text


def test_hiding_module(site, another_site):
    """A plain module of that name hides the namespace package as well."""
    modules = {"made_flat/part.py": "class Adapter: ..."}
    site.install("made-part", "a = made_flat.part:Adapter", modules)
    another_site.install("made-foreign", "", {"made_flat.py": ""})
    with pytest.raises(AdapterLoadError, match="hides the namespace package"):
        load(record_of("a"))


def test_foreign_package_in_the_same_folder(site):
    """Installed into one folder, a foreign `__init__` that fails takes our module with it."""
    modules = {"made_shared/part.py": "class Adapter: ..."}
    site.install("made-part", "a = made_shared.part:Adapter", modules)
    foreign = {"made_shared/__init__.py": "raise RuntimeError('needs a GPU')"}
    site.install("made-foreign", "", foreign, record=True)
    with pytest.raises(AdapterLoadError) as caught:
        load(record_of("a"))
    text = str(caught.value)
    assert "of the distribution made-foreign 1.0, cannot be imported" in text
    assert "raised RuntimeError: needs a GPU" in text


def test_own_package_that_fails_is_not_reported_as_hiding(site):
    """A distribution's own package that fails is not blamed on another one."""
    modules = {"made_own/__init__.py": "1 / 0", "made_own/part.py": ""}
    site.install("made-part", "a = made_own.part:Adapter", modules, record=True)
    with pytest.raises(
        AdapterLoadError, match=r"importing made_own\.part raised ZeroDivisionError"
    ):
        load(record_of("a"))


def test_own_submodule_that_fails_is_not_reported_as_hiding(site):
    """A failure inside the target's own module is that module's."""
    modules = {"made_deep/__init__.py": "", "made_deep/part.py": "1 / 0"}
    site.install("made-part", "a = made_deep.part:Adapter", modules)
    with pytest.raises(AdapterLoadError, match=r"importing made_deep\.part raised ZeroDivision"):
        load(record_of("a"))


def test_missing_namespace_is_not_reported_as_hiding(site):
    """Without any package of that name the module is just missing."""
    site.install("made-part", "a = made_nowhere.part:Adapter")
    with pytest.raises(AdapterLoadError, match="there is no module made_nowhere"):
        load(record_of("a"))


def test_module_without_a_spec_is_not_reported_as_hiding(site, monkeypatch):
    """A module object that was made by hand cannot be traced, and is accepted."""
    fake = type(sys)("made_fake")
    fake.__spec__ = None
    monkeypatch.setitem(sys.modules, "made_fake", fake)
    site.install("made-part", "a = made_fake.part:Adapter")
    with pytest.raises(AdapterLoadError, match=r"there is no module made_fake\.part"):
        load(record_of("a"))


# Two distributions with a module of one name


@pytest.mark.parametrize("record", [True, False])
def test_the_other_distributions_module(site, another_site, adapter_source, record):
    """A "distribution:name" never gives the other's class, if the files show whose it is."""
    modules = {"made_same.py": adapter_source}
    site.install("made-one", "same = made_same:Adapter", modules, record=record)
    another_site.install("made-two", "same = made_same:Adapter", modules, record=record)
    registry = Registry()
    with pytest.raises(AdapterLoadError) as caught:
        registry.get("made-one:same")
    whose = " of made-two 1.0" if record else ""
    there = another_site.folder / "made_same.py"
    said = f"the module made_same{whose}, imported from {there}, hides the one of made-one"
    assert said in caught.value.reason
    assert registry.get("made-two:same").distribution == "made-two"


def test_files_that_are_not_listed(site, another_site, adapter_source):
    """A distribution that is installed in place lists no files, and gets what is imported."""
    modules = {"made_same.py": adapter_source}
    another_site.install("made-two", "same = made_same:Adapter", modules, record=True)
    info = site.install("made-one", "same = made_same:Adapter", {"made_same.py": ""})
    (info / "RECORD").write_text("made_one.pth,,\n")
    (info / "direct_url.json").write_text('{"dir_info": {"editable": true}}')
    assert Registry().get("made-one:same").distribution == "made-one"


def test_module_of_unknown_distribution(site, another_site, adapter_source, monkeypatch):
    """A distribution without files or metadata gets what is imported, without a made-up problem."""

    def fail(name: str) -> None:
        raise KeyError(name)

    modules = {"made_same.py": adapter_source}
    info = site.install("made-one", "one = made_same:Adapter", modules)
    another_site.install("made-two", "two = made_same:Adapter", modules)
    (info / "METADATA").unlink()
    monkeypatch.setattr("importlib_metadata.distribution", fail)
    assert Registry().get("one").distribution == "made_one"


def test_one_package_of_two_distributions(site, adapter_source):
    """A namespace that both fill is not a conflict, even as a target."""
    for name in ("one", "two"):
        modules = {f"made_common/{name}.py": adapter_source}
        site.install(f"made-{name}", f"{name} = made_common.{name}:Adapter", modules, record=True)
    site.install("made-three", "three = made_common:one.Adapter")
    registry = Registry()
    for name in ("one", "two", "three"):
        assert registry.get(name).distribution == f"made-{name}"


def test_unreadable_neighbour_does_not_replace_the_error(site, another_site, monkeypatch):
    """If looking for the hiding_package's owner fails, the message comes without the owner."""

    def fail(*_: object) -> None:
        raise KeyError("Name")

    monkeypatch.setattr("registry.plugins.origin._files", fail)
    assert "of no distribution, hides" in hidden(site, another_site, record=True)
