"""A stage of a Ray Data pipeline that answers rows."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pyarrow

from registry.batch.errors import BatchError
from registry.batch.pace import Limits
from registry.batch.ray.blocks import Answering, Block
from registry.batch.ray.plan import ActorPlan, declared
from registry.batch.results import COLUMNS, flat
from registry.batch.rows import Mapped, mapped_row

PREFIX = "answer_"
"""Before the names of the columns that a stage adds."""


class Stage:
    """Answers each batch of rows; Ray Data makes one of these in each of its actors.

    Class attributes:
        plan: The plan, set by `stage`.
    """

    plan: ClassVar[ActorPlan]

    def __init__(self) -> None:
        self._answering = Answering(self.plan)

    async def __call__(self, table: pyarrow.Table) -> AsyncIterator[pyarrow.Table]:
        """Yield the batch with the columns of the answers.

        Raises:
            BatchError: If the batch is not a table, or the engines refuse every row.
        """
        if not isinstance(table, pyarrow.Table):
            raise BatchError('map_batches needs batch_format="pyarrow" for this stage')
        rows = [
            mapped_row(self.plan.mapped, number, fields)
            for number, fields in enumerate(table.to_pylist())
        ]
        block = await self._answering.answer(rows)
        if block.used.stopped:
            raise BatchError(block.used.stopped)
        yield _with_answers(table, block)

    def close(self) -> None:
        """Close the host. In an actor nothing calls it: the actor's process ends."""
        self._answering.close()


def stage(
    *,
    workers: Path | None = None,
    pool_id: str | None = None,
    mapped: Mapped | None = None,
    fields: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    actors: int = 1,
    checkpoints: Path | None = None,
) -> type[Stage]:
    """Return a callable class for `ray.data.Dataset.map_batches`, with `batch_format="pyarrow"`.

    It adds the columns `answer_text`, `answer_ok`, `answer_error_code` and so on. A row that fails
    is a row with an error; what would fail every row, such as a refused key, ends the pipeline.

    Args:
        workers: The workers file; its text goes to the actors, and each reads the secrets that the
            file names from the environment of its node. None: the replica that ORCHD_OPENAI_*
            describe there.
        pool_id: The pool that answers; None for the only one.
        mapped: How columns become requests.
        fields: Request fields for rows that do not set them: model, max_tokens, ...
        limits: The limits of all actors together; `max_tokens` and `max_failures` do not apply.
        actors: How many actors share the engines: the size of the pool of actors, or 1 if each
            actor has engines of its own.
        checkpoints: A folder that all nodes share. It keeps what is finished of each batch: after
            the loss of a node, or in a later run, only the rest of the same batch is sent.

    Raises:
        WorkersError: If the file is wrong, or has a secret in it.
        BatchError: If a limit cannot apply.
    """
    limits = limits or Limits()
    if limits.max_tokens is not None or limits.max_failures is not None:
        raise BatchError("max_tokens and max_failures count a whole run, a stage has batches")
    plan = ActorPlan(
        workers=None if workers is None else declared(workers),
        pool_id=pool_id,
        mapped=mapped or Mapped(),
        fields=dict(fields or {}),
        limits=limits,
        actors=actors,
        checkpoints=None if checkpoints is None else str(checkpoints),
    )
    return type("Answered", (Stage,), {"plan": plan})


def _with_answers(table: pyarrow.Table, block: Block) -> pyarrow.Table:
    answers = [_answer(block, number) for number in range(block.rows)]
    for name, kind in COLUMNS.items():
        if name != "custom_id":
            values = [answer.get(name) for answer in answers]
            added = pyarrow.array(values, getattr(pyarrow, kind)())
            table = table.append_column(PREFIX + name, added)
    return table


def _answer(block: Block, number: int) -> Mapping[str, Any]:
    outcome, result = block.results[number]
    return flat(msgspec.json.decode(result), ok=outcome == "ok")
