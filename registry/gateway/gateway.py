"""One gateway: its host, its keys, and the jobs that run through it."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

from adapter_api.task import new_id
from registry.gateway.access import is_local
from registry.gateway.jobs import MAX_RECENT, EndedJob, GatewayJob
from registry.gateway.keys import Key, Keyring
from registry.gateway.models import ModelDirectory
from registry.gateway.reply import Reply
from registry.gateway.settings import Settings
from registry.host import AdapterHost
from registry.serving import JobTable
from registry.serving.openai_api import requests
from registry.serving.openai_api.errors import ApiError, Headers


class Gateway:
    """One gateway: its host, its keys, and the jobs that run through it.

    Args:
        host: Runs the jobs; the gateway does not close it.
        keys: The keys of the clients. None allows every client.
        settings: The settings.
    """

    def __init__(
        self, host: AdapterHost, keys: Keyring | None = None, settings: Settings | None = None
    ) -> None:
        self.host = host
        self.keys = keys
        self.settings = settings or Settings()
        self.models = ModelDirectory(host, self.settings.aliases)
        self.table: JobTable[GatewayJob] = JobTable(host)
        self.recent: deque[EndedJob] = deque(maxlen=MAX_RECENT)
        self.is_leaving = False  # not ready any more, so that balancers look elsewhere
        self.is_draining = False  # new jobs are refused
        self._cancelling: set[asyncio.Task[bool]] = set()

    # Clients

    def key(self, scope: Mapping[str, Any]) -> Key | None:
        """Return the key of a request; None if the gateway has no keys.

        Raises:
            ApiError: 401.
        """
        return None if self.keys is None else self.keys.find(scope)

    def admit_reader(self, scope: Mapping[str, Any]) -> None:
        """Admit clients that may see jobs and metrics: this machine, or a key with `metrics`.

        A browser prompts for the key as the password of Basic authentication.

        Raises:
            ApiError: 401 or 403.
        """
        if self.keys is None or is_local(scope):
            return
        if not self.keys.find(scope, basic=True).limits.metrics:
            raise ApiError(
                403,
                "This key does not open this page: set `metrics = true` for it in the key file.",
                code="not_allowed",
            )

    # Jobs

    def job_id(self, wanted: str | None) -> str:
        """Return the client's id of the request if it can be a job's id and is free."""
        if wanted is not None and requests.is_id(wanted) and wanted not in self.table:
            return wanted
        return new_id()

    def read(
        self,
        kind: requests.Kind,
        body: bytes | bytearray,
        headers: Mapping[str, str],
        key: Key | None,
        job_id: str,
    ) -> tuple[requests.ApiRequest, GatewayJob]:
        """Read a request and name its pool.

        Raises:
            ApiError: If it is refused.
        """
        fields = requests.decode(body)
        model = requests.requested_model(fields)
        pool_id = self.models.find(model, None if key is None else key.pools)
        if job_id in self.table:  # another request took the id while the body came
            job_id = new_id()
        request = requests.read(
            kind,
            model or pool_id,
            fields,
            headers,
            model=self.models.upstream_name(model),
            job_id=job_id,
        )
        return request, GatewayJob(
            pool_id,
            request.task,
            request.priority,
            model=request.model,
            key="" if key is None else key.name,
        )

    def headers_of(self, job_id: str) -> Headers:
        """Return the headers that an answer to a job has, from what is known by now."""
        asked = self.host.attempted_replicas(job_id)
        headers = [
            (b"x-request-id", job_id.encode("ascii")),
            (b"x-worker-attempts", b"%d" % len(asked)),
        ]
        if asked:
            headers.append((b"x-worker-replica", asked[-1].encode("ascii", "replace")))
        return headers

    def cancel(self, job_id: str) -> None:
        """Cancel a job; its answer ends with an error."""
        task = asyncio.create_task(self.table.cancel(job_id))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    def note_ended(self, job: GatewayJob, reply: Reply) -> None:
        """Keep a job that has ended for the dashboard; status 0 if it was not answered."""
        self.recent.append(EndedJob.of(job, reply.status, reply.now()))
