"""A gateway from files: its host, its workers, its keys and its metrics."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from adapter_api.errors import ConfigError
from registry.gateway.access import is_loopback
from registry.gateway.app import application
from registry.gateway.dashboard import EventLog
from registry.gateway.gateway import Gateway
from registry.gateway.key_file import KeysWatch
from registry.gateway.keys import Keyring
from registry.gateway.server import ServerSettings, serve, stop_on_signals
from registry.gateway.settings import Settings
from registry.observers.prometheus import PrometheusObserver
from registry.workers import AdapterHost, WorkersWatch

logger = logging.getLogger("worker_adapters.gateway")


@attrs.frozen(kw_only=True)
class GatewayPlan:
    """The parts from which a gateway is made.

    Args:
        workers: The file that declares pools and replicas; None for none.
        handoff: The folder of handoff files; None for none. Without file and folder there is the
            one replica that the environment describes.
        keys: The key file; None allows every client.
        no_auth: Whether the gateway may listen off loopback without keys.
        settings: The settings of its answers.
        server: How it listens and stops.
        observers: Further observers of its host.
    """

    workers: Path | None = None
    handoff: Path | None = None
    keys: Path | None = None
    no_auth: bool = False
    settings: Settings = attrs.field(factory=Settings)
    server: ServerSettings = attrs.field(factory=ServerSettings)
    observers: tuple[object, ...] = ()

    def with_observer(self, observer: object) -> "GatewayPlan":
        """Return the plan with one more observer."""
        return attrs.evolve(self, observers=(*self.observers, observer))

    def check(self) -> Keyring | None:
        """Read the keys.

        Raises:
            ConfigError: If the key file is wrong, or the gateway would be open to the network.
        """
        if self.keys is not None:
            return Keyring.from_file(self.keys)
        if not self.no_auth and not is_loopback(self.server.host):
            raise ConfigError.single(
                "gateway",
                f"listening on {self.server.host} without keys would let the whole network in: "
                "give --keys FILE (`worker-adapters gateway key NAME` makes a key), or --no-auth "
                "if something else keeps clients out",
            )
        return None


async def run(plan: GatewayPlan, listening: Callable[[str], None]) -> int | None:
    """Serve the pools that the plan's files declare until a signal arrives.

    Args:
        plan: The parts of the gateway.
        listening: Called with the base URL once requests are accepted.

    Returns:
        None if every job ended in time; the number of the signal if some were cut off.

    Raises:
        ConfigError: If a file, or without any the environment, is wrong.
        OSError: If the address cannot be used.
    """

    @asynccontextmanager
    async def declared(observers: Sequence[object]) -> AsyncIterator[AdapterHost]:
        make = AdapterHost if plan.workers or plan.handoff else AdapterHost.from_environment
        async with (
            make(observers=observers) as host,
            WorkersWatch(host, plan.workers, handoff=plan.handoff),
        ):
            yield host

    return await run_over(declared, plan, listening)


async def run_over(
    open_host: Callable[[Sequence[object]], AbstractAsyncContextManager[AdapterHost]],
    plan: GatewayPlan,
    listening: Callable[[str], None],
) -> int | None:
    """Serve a host until a signal comes.

    Args:
        open_host: Opens the host with these observers.
        plan: How to serve it; its files of workers are not read.
        listening: Called with the base URL once requests are accepted.

    Returns and raises as `run`.
    """
    keys = plan.check()
    figures, events = CollectorRegistry(), EventLog()
    observers = (PrometheusObserver(figures), events, *plan.observers)
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(open_host(observers))
        if plan.keys is not None and keys is not None:
            await stack.enter_async_context(KeysWatch(plan.keys, keys.replace))
        warn_of_aliases(plan.settings, host)
        gateway = Gateway(host, keys, plan.settings)
        served = application(
            gateway, lambda: (generate_latest(figures), CONTENT_TYPE_LATEST), events
        )
        with stop_on_signals() as stop:
            whole = await serve(gateway, served, plan.server, stop, listening=listening)
        return None if whole else stop.signal


def warn_of_aliases(settings: Settings, host: AdapterHost) -> None:
    """Log the aliases whose pool does not exist. A later version of the files may declare it."""
    for alias, pool_id in settings.aliases.items():
        if pool_id not in host.models():
            logger.warning("alias %r leads to pool %r, which is not declared", alias, pool_id)
