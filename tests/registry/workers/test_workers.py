"""Workers that a TOML file or the environment declares."""

import re
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from adapter_api import TaskRequest
from registry import AdapterHost, ConfigError, PoolPolicy, Registry
from registry.host.breaker import BreakerPolicy
from registry.workers import WorkersError
from registry.workers.file import MAX_FILE_BYTES, ROUTINGS, ReplicaTable, parse_workers
from registry.workers.spec import Workers

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "workers-file.md"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes workers.toml into the working directory."""
    monkeypatch.chdir(tmp_path)

    def put(text: str) -> Path:
        path = Path("workers.toml")
        path.write_text(text)
        return path

    return put


def parse(text: str) -> Workers:
    return parse_workers(text, "workers.toml", Registry())


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(WorkersError) as caught:
        parse(text)
    return tuple(map(str, caught.value.problems))


def replica(**lines: str) -> str:
    """A replica r of pool p, with an adapter and whatever else."""
    given = {"pool": '"p"', "replica": '"r"', "adapter": '"mock"', **lines}
    return "[[replicas]]\n" + "".join(f"{key} = {value}\n" for key, value in given.items())


# A file that is right


async def test_a_file_binds_its_replicas(write: Write) -> None:
    """Pools and replicas are there, with limits and options, and answer (ORCH-3056)."""
    path = write(
        replica(replica='"r0"', limit="2", options='{ tokens = ["a", "b"] }')
        + replica(replica='"r1"', pool='"q"')
    )
    async with AdapterHost.from_file(path) as host:
        pools = {pool.pool_id: pool for pool in host.snapshot().pools}
        assert {name: [r.replica_id for r in pool.replicas] for name, pool in pools.items()} == {
            "p": ["r0"],
            "q": ["r1"],
        }
        assert pools["p"].replicas[0].limit == 2
        assert await host.submit("p", TaskRequest(prompt="x")).text() == "ab"


async def test_the_example_of_the_page_loads(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The complete example in docs/reference/workers-file.md is one."""
    monkeypatch.setenv("VLLM_KEY", "sk-1")
    example = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)[0]
    async with AdapterHost.from_file(write(example)) as host:
        pools = host.snapshot().pools
        assert sum(len(pool.replicas) for pool in pools) >= 3


def test_a_pool_has_the_defaults_and_its_own_settings() -> None:
    """A pool's settings go before the defaults, which go before the built-in ones (AH-1006)."""
    policies = parse(
        "[defaults]\nmax_queue = 7\ndeadline_s = 60\n"
        '[pools.p]\nmax_queue = 3\nrouting = "least_loaded"\nbreaker = { failures = 2 }\n'
        + replica(pool='"other"')
    ).policies
    own, other = policies["p"].policy, policies["other"].policy
    assert (own.max_queue, own.deadline_s, own.breaker.failures) == (3, 60.0, 2)
    assert (other.max_queue, other.deadline_s) == (7, 60.0)
    assert type(own.routing) is not type(other.routing)


def test_a_file_may_be_empty() -> None:
    """A file without replicas is valid: handoff files may add them."""
    assert parse("") == Workers()


def test_an_adapter_knows_where_it_is_bound() -> None:
    """Options pool_id and replica_id are filled in, for the adapter's log, unless given."""
    text = replica(adapter='"openai-http"', options='{ base_url = "http://h" }')
    (spec,) = parse(text).replicas.values()
    config = spec.build(Registry()).config
    assert (config.pool_id, config.replica_id) == ("p", "r")
    given = replica(
        adapter='"openai-http"', options='{ base_url = "http://h", replica_id = "mine" }'
    )
    (spec,) = parse(given).replicas.values()
    assert spec.build(Registry()).config.replica_id == "mine"


# Secrets


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file names the variable; the value reaches the adapter, and no repr."""
    monkeypatch.setenv("VLLM_KEY", "sk-12345")
    text = replica(
        adapter='"openai-http"',
        options='{ base_url = "http://h" }',
        secrets='{ api_key = "VLLM_KEY" }',
    )
    workers = parse(text)
    (spec,) = workers.replicas.values()
    assert spec.build(Registry()).config.api_key == "sk-12345"
    assert "sk-12345" not in repr(workers)


def test_a_literal_secret_is_refused_and_not_repeated() -> None:
    """A key in the file itself is an error that says what to write, without the key."""
    (problem,) = problems_of(
        replica(adapter='"openai-http"', options='{ base_url = "http://h", api_key = "sk-12345" }')
    )
    assert problem.startswith(
        "workers.toml: $.replicas[0].options.api_key: a secret does not belong"
    )
    assert 'secrets = { api_key = "VARIABLE" }' in problem
    assert "sk-12345" not in problem


@pytest.mark.parametrize("value", ["", None])
def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """A variable that is not set, or empty, is an error with its name and path."""
    monkeypatch.delenv("VLLM_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("VLLM_KEY", value)
    text = replica(
        adapter='"openai-http"',
        options='{ base_url = "http://h" }',
        secrets='{ api_key = "VLLM_KEY" }',
    )
    path = "workers.toml: $.replicas[0].secrets.api_key"
    assert problems_of(text) == (f"{path}: the environment variable VLLM_KEY is not set",)


def test_a_key_in_the_place_of_a_variable_is_not_repeated() -> None:
    """A key written in place of its variable does not show in the error."""
    (problem,) = problems_of(
        replica(
            adapter='"openai-http"',
            options='{ base_url = "http://h" }',
            secrets='{ api_key = "sk-12345" }',
        )
    )
    assert "expected the name of an environment variable that is set" in problem
    assert "sk-12345" not in problem


def test_what_comes_from_the_environment_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong value from a variable is not in the message, also if the option is not secret."""
    monkeypatch.setenv("CODE", "sk-12345")
    (problem,) = problems_of(replica(secrets='{ error_code = "CODE" }'))
    assert problem.startswith("workers.toml: $.replicas[0].secrets.error_code: error_code must be")
    assert "sk-12345" not in problem


def test_an_option_comes_from_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that is also among the secrets is a mistake."""
    monkeypatch.setenv("MODEL", "m")
    text = replica(options='{ model = "x" }', secrets='{ model = "MODEL" }')
    path = "workers.toml: $.replicas[0].secrets.model"
    assert problems_of(text) == (f"{path}: it is also among the options: remove one of them",)


def test_a_file_never_reads_the_adapters_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options that the file does not set do not come from ORCHD_OPENAI_*."""
    monkeypatch.setenv("ORCHD_OPENAI_URL", "http://other")
    (problem,) = problems_of(replica(adapter='"openai-http"'))
    assert problem == ("workers.toml: $.replicas[0].options.base_url: missing; set base_url=...")


# A file that is wrong


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pool = 1", "$.pool: unknown option; did you mean pools?"),
        ("[defaults]\nqueue_mots = 1", "$.defaults.queue_mots: unknown option; did you mean"),
        ("[pools.p]\nmax_queue = 'x'", "$.pools.p.max_queue: expected int, got str"),
        (
            "[pools.p]\nmax_queue = -1",
            "$.pools.p.max_queue: max_queue must be an integer of at least 0, got -1",
        ),
        (
            "[defaults]\ndeadline_s = 0",
            "$.defaults.deadline_s: deadline_s must be a finite number of seconds above 0",
        ),
        ("[pools.p.breaker]\nfailures = 1.5", "$.pools.p.breaker.failures: expected int"),
        ("[pools.p]\nrouting = 'least_lodaed'", "$.pools.p.routing: expected the name of"),
        ("[pools.p]\nrouting = 7", "the names are session_affinity, prefix_affinity,"),
        ("[pools.p]\nrouting = { name = 'least_loaded', x = 1 }", "$.pools.p.routing.x: unknown"),
        (
            "[pools.p]\nfallback = ['p', 'spar']\n" + replica(pool="'spare'"),
            "$.pools.p.fallback[1]: there is no pool 'spar'; did you mean 'spare'?",
        ),
        (
            "[defaults]\nfallback = ['q']\n[pools.p]\n" + replica(),
            "$.defaults.fallback[0]: there is no pool 'q'; the pools are: p. A pool whose",
        ),
        ("[replicas]", "$.replicas: expected"),
        (replica(pool='""'), "$.replicas[0].pool: pool must be a name"),
        (replica(pool="1"), "$.replicas[0].pool: expected str, got int"),
        (
            replica(limit="0"),
            "$.replicas[0].limit: limit must be an integer of at least 1 (or None), got 0",
        ),
        (replica(limit="true"), "$.replicas[0].limit: expected int | None, got bool"),
        (replica(adapter='"mokc"'), "$.replicas[0].adapter: no adapter named 'mokc': did you mean"),
        (replica(options="{ delay_s = 'x' }"), "$.replicas[0].options.delay_s: expected float"),
        (replica(options="{ dely_s = 1 }"), "did you mean delay_s?"),
        (
            replica(options="{ delay_s = -1 }"),
            "$.replicas[0].options.delay_s: delay_s must be a finite number",
        ),
        (replica(secrets="{ nothing = 'HOME' }"), "$.replicas[0].secrets.nothing: unknown option"),
        (replica(secrets="{ model = 1 }"), "$.replicas[0].secrets['model']: expected str"),
        (replica() + replica(), "$.replicas[1]: pool 'p' has a replica 'r' already, from"),
        ("[", "it is not TOML: "),
        ("x = " + "[" * 5000, "it is nested too deeply"),
        (".".join("a" * 100) + " = 1", "it is nested too deeply"),
    ],
)
def test_each_problem_has_its_path(text: str, problem: str) -> None:
    """Whatever is wrong is said in one line that begins with file and path."""
    (found,) = problems_of(text)
    assert found.startswith("workers.toml: ")
    assert problem in found


def test_a_fallback_may_be_filled_later() -> None:
    """It has a table, or the file leaves the replicas, and with them pools, to others."""
    assert parse("[pools.p]\nfallback = ['q']\n[pools.q]\n" + replica()).pools.keys() == {"p", "q"}
    assert parse("[pools.p]\nfallback = ['q']\n").pools["p"].policy.fallback == ("q",)


def test_all_problems_come_in_one_error() -> None:
    """One error has every problem, including the options of invalid replicas."""
    problems = problems_of(
        "x = 1\n[defaults]\ny = 1\n[pools.p]\nz = 1\n"
        + replica(limit="0", options="{ delay_s = 'x' }")
        + replica(replica='"s"', adapter='"absent"')
        + replica(replica='"t"', adapter='"openai-http"', options="{ stall_timeout_s = 'x' }")
    )
    assert [problem.split(": ")[1] for problem in problems] == [
        "$.x",
        "$.defaults.y",
        "$.pools.p.z",
        "$.replicas[0].limit",
        "$.replicas[0].options.delay_s",
        "$.replicas[1].adapter",
        "$.replicas[2].options.base_url",
        "$.replicas[2].options.stall_timeout_s",
    ]


def test_the_message_holds_every_problem() -> None:
    """One problem is the message; several are a list below the file's name."""
    one = WorkersError("workers.toml", ["workers.toml: $.x: wrong"])
    assert str(one) == "workers.toml: $.x: wrong"
    two = WorkersError("workers.toml", ["a", "b"])
    assert str(two) == "workers.toml cannot be used:\n  - a\n  - b"


async def test_a_wrong_file_binds_nothing(write: Write) -> None:
    """One wrong replica keeps the others from being bound, too."""
    async with AdapterHost() as host:
        path = write(replica() + replica(replica='"s"', adapter='"absent"'))
        with pytest.raises(WorkersError, match="replicas\\[1\\].adapter"):
            type(host).from_file(path)
        assert host.snapshot().pools == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "it cannot be read: No such file"),
        (b"\xff", "it is not UTF-8"),
        (b" " * (MAX_FILE_BYTES + 1), "it is longer than"),
    ],
)
async def test_a_file_that_is_none(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """A missing, binary or endless file is said to be one."""
    path = tmp_path / "workers.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WorkersError, match=problem):
        AdapterHost.from_file(path)


async def test_a_file_from_windows(write: Write) -> None:
    """Editors there put a byte order mark first, and end lines with CR LF."""
    path = write(replica())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    async with AdapterHost.from_file(path) as host:
        assert len(host.snapshot().pools) == 1


async def test_a_constructor_that_refuses(write: Write, site: object, adapter_source: str) -> None:
    """An error of an adapter's constructor has the replica's path."""
    refusing = adapter_source + (
        "\nclass Refusing(Adapter):\n"
        "    def __init__(self, config: Config):\n"
        "        raise ValueError('no such model')\n"
    )
    site.install(  # type: ignore[attr-defined]
        "made", "refusing = made_refusing:Refusing", {"made_refusing.py": refusing}
    )
    with pytest.raises(WorkersError, match=r"workers.toml: \$.replicas\[0\]: .*no such model"):
        AdapterHost.from_file(write(replica(adapter='"refusing"')))


# The environment


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({}, ("default", "r0")),
        ({"ORCHD_OPENAI_POOL": "chat", "ORCHD_OPENAI_REPLICA": "r7"}, ("chat", "r7")),
    ],
)
async def test_the_environment_binds_one_replica(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], key: tuple[str, str]
) -> None:
    """ORCHD_OPENAI_URL, _POOL, _REPLICA and _API_KEY make a host with one replica."""
    for name in ("POOL", "REPLICA"):
        monkeypatch.delenv(f"ORCHD_OPENAI_{name}", raising=False)
    given = {"ORCHD_OPENAI_URL": "http://127.0.0.1:9", "ORCHD_OPENAI_API_KEY": "sk-1"}
    for name, value in {**given, **variables}.items():
        monkeypatch.setenv(name, value)
    async with AdapterHost.from_environment() as host:
        (pool,) = host.snapshot().pools
        assert (pool.pool_id, pool.replicas[0].replica_id) == key
        assert host.adapter(*key).config.api_key == "sk-1"  # type: ignore[attr-defined]


async def test_an_environment_without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the URL the error names its variable."""
    monkeypatch.setenv("ORCHD_OPENAI_URL", "example")
    monkeypatch.setenv("ORCHD_OPENAI_POOL", "p")
    with pytest.raises(ConfigError) as caught:
        AdapterHost.from_environment()
    assert "'openai-http': base_url must begin with http" in str(caught.value)
    monkeypatch.delenv("ORCHD_OPENAI_URL", raising=False)
    with pytest.raises(ConfigError, match="no engine is declared: set ORCHD_OPENAI_URL"):
        AdapterHost.from_environment()


async def test_a_declared_replica_is_bound_with_its_settings(write: Write) -> None:
    """Weight, priority, model and aliases of the file reach the host."""
    text = replica(weight="2.5", priority="1", model='"llama"', aliases='["fast", "small"]')
    async with AdapterHost.from_file(write(text)) as host:
        assert set(host.models()["p"]) == {"llama", "fast", "small"}
    (problem,) = problems_of(replica(weight="0"))
    assert "$.replicas[0].weight: weight must be" in problem


async def test_a_declared_pool_exists_without_replicas(write: Write) -> None:
    """A table is enough; the pool waits for its replicas."""
    async with AdapterHost.from_file(write("[pools.later]\nmax_queue = 3\n")) as host:
        assert [pool.pool_id for pool in host.snapshot().pools] == ["later"]


# The page


def test_every_key_is_on_the_page() -> None:
    """docs/reference/workers-file.md has a row for each key of a replica and each setting."""
    text = PAGE.read_text()
    for cls in (ReplicaTable, PoolPolicy):
        for field in attrs.fields(cls):
            assert f"| `{field.name}` |" in text
    for field in attrs.fields(BreakerPolicy):
        assert f"`{field.name}`" in text
    for name in ROUTINGS:
        assert f'"{name}"' in text
