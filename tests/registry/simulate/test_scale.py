"""Many replicas, and many hosts over the same replicas: the figures of the page on scale."""

import logging
import resource
from time import process_time

import pytest

from registry.host import PoolPolicy
from registry.simulate import Report, SimulatedReplica, poisson, simulate

SLOTS = 8

LARGE = pytest.mark.exhaustive


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """No records of single jobs: the runner keeps each."""
    caplog.set_level(logging.CRITICAL, "worker_adapters")


def run(hosts: int, replicas: int, rate: float, for_s: float, limit: int | None) -> Report:
    """The same jobs and engines, whatever the number of hosts."""
    engines = [SimulatedReplica(f"r{n}", limit=limit, slots=SLOTS) for n in range(replicas)]
    trace = poisson(rate, for_s, deadline_s=60, seed=1)
    return simulate(trace, engines, PoolPolicy(probe_interval_s=60.0), hosts=hosts, seed=1)


@pytest.mark.parametrize(
    ("replicas", "for_s"), [(2, 20), pytest.param(10, 120, marks=LARGE)], ids=str
)
@pytest.mark.parametrize("load", [0.8, 0.95])
def test_hosts_that_share_replicas_lose_no_job(
    replicas: int, for_s: float, load: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """1, 2 and 4 hosts know nothing of each other: engines refuse a part, jobs wait longer, and
    none is lost. Hosts that divide the slots are never refused."""
    rate = load * replicas * SLOTS / 2.38  # seconds for which a job has a slot, in the mean
    for shared in (False, True):
        reports = {
            hosts: run(hosts, replicas, rate, for_s, SLOTS // hosts if shared else None)
            for hosts in (1, 2, 4)
        }
        for hosts, report in reports.items():
            with capsys.disabled():
                print(
                    f"\n{load:.0%} load, {hosts} hosts, limits {'shared' if shared else 'learnt'}: "
                    f"waited {report.waited_s[1]:.2f} s (99 of 100), first token "
                    f"{report.first_token_p95_s:.2f} s (95 of 100), {report.jobs} jobs, "
                    f"{report.rejected} rejected, {report.refused} busy answers",
                    end="",
                )
            assert report.outcomes == {"ok": report.jobs}
            assert not (shared and report.refused)
        assert reports[1].waited_s[1] <= 1.25 * reports[4].waited_s[1]
        assert shared or reports[4].refused > 0
    assert len({report.jobs for report in reports.values()}) == 1


@LARGE
def test_an_overload_is_refused_by_each_host_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Each host has a queue of its own, so that more hosts refuse less and let jobs wait longer."""
    reports = {hosts: run(hosts, 10, 1.15 * 10 * SLOTS / 2.38, 120, None) for hosts in (1, 2, 4)}
    for hosts, report in reports.items():
        with capsys.disabled():
            print(
                f"\n115% load, {hosts} hosts: waited {report.waited_s[0]:.1f} and "
                f"{report.waited_s[1]:.1f} s (half, 99 of 100), first token "
                f"{report.first_token_p95_s:.1f} s (95 of 100), {report.rejected} of "
                f"{report.jobs} rejected",
                end="",
            )
        assert report.outcomes["ok"] + report.rejected == report.jobs
    assert reports[1].rejected > reports[2].rejected > reports[4].rejected
    assert reports[1].waited_s[1] < reports[2].waited_s[1] < reports[4].waited_s[1]


@pytest.mark.parametrize(
    ("replicas", "sessions", "rate", "for_s"),
    [
        (10, 0, 20, 10),
        pytest.param(100, 10_000, 200, 60, marks=LARGE),
        pytest.param(1000, 100_000, 500, 60, marks=(LARGE, pytest.mark.timing)),
        pytest.param(10_000, 1_000_000, 1000, 60, marks=(LARGE, pytest.mark.timing)),
    ],
)
def test_more_replicas_do_not_delay_jobs(
    replicas: int, sessions: int, rate: float, for_s: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """The time to the first token is the engines', however many there are."""
    trace = poisson(rate, for_s, sessions=sessions, seed=1)
    engines = [SimulatedReplica(f"r{n}", limit=SLOTS) for n in range(replicas)]
    began_at = process_time()
    report = simulate(trace, engines, PoolPolicy(probe_interval_s=60.0), seed=1)
    took_s = process_time() - began_at
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    with capsys.disabled():
        print(
            f"\n{replicas:,} replicas, {sessions:,} sessions: {report.jobs:,} jobs, "
            f"{took_s:.1f} s of processor time, most memory {memory_mb} MB, first token "
            f"{report.first_token_s[0]:.2f} s (half), {report.first_token_p95_s:.2f} s (95 of 100)",
            end="",
        )
    assert report.outcomes == {"ok": len(trace)}
    assert report.first_token_p95_s < 0.5  # 0.2 s in the middle, and spread
