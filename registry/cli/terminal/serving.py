"""A gateway in the foreground: its log on standard error, its exit status."""

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from registry.cli.terminal import status
from registry.cli.terminal.arguments import cannot_listen
from registry.cli.terminal.logs import ChangeLog, log_to_stderr
from registry.cli.terminal.loops import loop_factory
from registry.gateway.run import GatewayPlan, run

Serve = Callable[[GatewayPlan, Callable[[str], None]], Coroutine[Any, Any, int | None]]


def run_gateway(plan: GatewayPlan, serve: Serve = run) -> int:
    """Serve until a signal comes.

    Args:
        plan: The plan to serve.
        serve: Serves it.

    Returns:
        The exit status: OK if every job came to its own end, else that of the signal.

    Raises:
        ConfigError: If a file, or without any the environment, is wrong.
        UsageError: If the address cannot be used.
    """
    log_to_stderr()
    _log_access()
    plan = plan.with_observer(ChangeLog())
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            cut_by = runner.run(serve(plan, _say_where))
    except OSError as error:
        raise cannot_listen(plan.server.host, plan.server.port, error) from error
    return status.OK if cut_by is None else status.after_signal(cut_by)


def _say_where(url: str) -> None:
    gc.freeze()  # a full collection of all that is imported would stop every stream for some 60 ms
    status.note(f"listening on {url}; OpenAI clients use {url}/v1; dashboard {url}/")


def _log_access() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("worker_adapters.access")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
