"""The data sent to actors: everything that they need, and no secret."""

import pickle
from pathlib import Path

import pytest

from registry.batch import BatchError, Limits
from registry.batch.ray import stage
from registry.batch.ray.plan import ActorPlan, declared
from registry.workers import WorkersError

WORKERS = """
# the key is sk-secret-1
[defaults]
deadline_s = 12.5
[pools.p]
routing = { name = "session_affinity", bound = 1.5 }
[[replicas]]
pool = "p"
replica = 'a "quoted" name, ü'
adapter = "openai-http"
options = { base_url = "http://localhost:1", max_connections = 3 }
secrets = { api_key = "RAY_PLAN_KEY" }
"""


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workers file that names the variable of a secret."""
    monkeypatch.setenv("RAY_PLAN_KEY", "sk-secret-2")
    path = tmp_path / "workers.toml"
    path.write_text(WORKERS)
    return path


def test_the_plan_has_no_secret(workers: Path) -> None:
    """A pickled plan has the variable's name, not its value, and no comment of the file."""
    plan = stage(workers=workers, fields={"model": "m"}).plan
    data = pickle.dumps(plan)
    assert b"RAY_PLAN_KEY" in data
    assert b"sk-secret" not in data
    assert pickle.loads(data) == plan


async def test_an_actor_has_what_the_file_declares(workers: Path) -> None:
    """The host that a plan makes has the file's replicas, with the secret of its own node."""
    async with ActorPlan(workers=declared(workers)).host() as host:
        (pool,) = host.snapshot().pools
        (replica,) = pool.replicas
        assert (pool.pool_id, replica.replica_id) == ("p", 'a "quoted" name, ü')


def test_a_secret_in_the_file_is_refused(workers: Path) -> None:
    """A key written into the file never reaches a plan."""
    workers.write_text(WORKERS.replace("max_connections = 3", 'api_key = "sk-secret-3"'))
    with pytest.raises(WorkersError, match="a secret does not belong in a file"):
        stage(workers=workers)


def test_actors_share_the_limits() -> None:
    """Each of four actors has a quarter of what the run may do."""
    limits = Limits(requests_per_minute=100, tokens_per_minute=1000, max_in_flight=2)
    own = ActorPlan(limits=limits, actors=4).own_limits()
    assert (own.requests_per_minute, own.tokens_per_minute, own.max_in_flight) == (25, 250, 1)


def test_limits_of_a_whole_run_are_refused() -> None:
    """A stage cannot keep what is counted over the whole run."""
    with pytest.raises(BatchError, match="max_tokens and max_failures"):
        stage(limits=Limits(max_tokens=5))
