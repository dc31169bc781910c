"""`batch`: a file of prompts, each exactly once in the results."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.terminal import status
from registry.cli.terminal.arguments import (
    Json,
    JsonSchema,
    MaxTokens,
    Model,
    Pool,
    System,
    Temperature,
    Workers,
)
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.prompts import make_task, read_schema, read_text
from registry.cli.terminal.status import UsageError

if TYPE_CHECKING:
    from registry.batch import Limits
    from registry.cli.terminal.bulk import OnRay

Input = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT", help="OpenAI batch JSONL, JSON lines, CSV or Parquet; - is standard input."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="The results: .parquet, or else OpenAI's batch format.",
    ),
]
MaxInFlight = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Concurrent rows; else what the pool can take."),
]
Rpm = Annotated[int | None, typer.Option(min=1, metavar="N", help="Requests per minute.")]
Tpm = Annotated[int | None, typer.Option(min=1, metavar="N", help="Tokens per minute.")]
MaxCost = Annotated[
    int | None, typer.Option(min=1, metavar="TOKENS", help="Stop after this many tokens.")
]
MaxFailures = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Stop once more rows than this have failed.")
]
Attempts = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="How often a row is sent if the engine fails at it."),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Run on a Ray cluster: HOST:PORT, auto, or local for a new one."
    ),
]
RayActors = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Number of actors; else one per node.")
]


def batch(context: typer.Context) -> Action:
    """Answer a file of prompts; an interrupted run resumes where it stopped."""

    def action() -> int:
        if context.invoked_subcommand is None:
            raise UsageError("name a subcommand: batch run INPUT, batch status INPUT, ...")
        return status.OK

    return action


def run(
    input: Input,
    output: Output = None,
    workers: Workers = None,
    pool: Pool = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="openai, jsonl, csv or parquet; else the file decides."),
    ] = None,
    prompt_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="The column that holds the prompt.")
    ] = "prompt",
    template: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="A prompt with {column} in it, or @FILE with one."),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column that names each row in the results."),
    ] = None,
    system: System = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Send prompts as they are, not as chat messages.")
    ] = False,
    model: Model = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    json_schema: JsonSchema = None,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Any other field of each request; repeatable."),
    ] = None,
    max_in_flight: MaxInFlight = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_cost: MaxCost = None,
    max_failures: MaxFailures = None,
    attempts: Attempts = 4,
    ray: Ray = None,
    ray_actors: RayActors = None,
    accept_changes: Annotated[
        bool,
        typer.Option("--accept-changes", help="Resume although the request options have changed."),
    ] = False,
) -> Action:
    """Answer every row of a file; the same command again resumes where it stopped.

    Each row is exactly once in the results, whatever interrupts the run: the journal beside the
    output records what is finished. Rows that fail go to NAME.errors.jsonl. Without --workers the
    rows go to the one replica that ORCHD_OPENAI_URL and the related variables describe.
    """

    def action() -> int:
        from registry.batch import Mapped, Plan
        from registry.cli.terminal.bulk import run_batch

        mapped = Mapped(
            prompt_column=prompt_column,
            template=_template(template),
            id_column=id_column,
            system=system,
            chat=not raw,
        )
        limits = _limits(max_in_flight, rpm, tpm, max_cost, max_failures, attempts)
        plan = Plan(
            input=input,
            output=_output(input, output),
            format=_format(format),
            mapped=mapped,
            pool_id=pool or "",
            fields=_fields(model, max_tokens, temperature, json_schema, field or []),
            limits=limits,
            accept_changes=accept_changes,
        )
        return run_batch(plan, workers, _on_ray(ray, ray_actors))

    return action


def retry_failed(
    input: Input,
    output: Output = None,
    workers: Workers = None,
    max_in_flight: MaxInFlight = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_cost: MaxCost = None,
    max_failures: MaxFailures = None,
    attempts: Attempts = 4,
    ray: Ray = None,
    ray_actors: RayActors = None,
) -> Action:
    """Send the failed rows of a run again, with the request options of that run."""

    def action() -> int:
        from registry.cli.terminal.bulk import retry_batch

        limits = _limits(max_in_flight, rpm, tpm, max_cost, max_failures, attempts)
        on_ray = _on_ray(ray, ray_actors)
        return retry_batch(input, _output(input, output), workers, limits, on_ray)

    return action


def show_status(input: Input, output: Output = None, as_json: Json = False) -> Action:
    """Print the progress of a run, while it runs and afterwards."""

    def action() -> int:
        from registry.cli.terminal.bulk import show_batch

        return show_batch(_output(input, output), as_json=as_json)

    return action


_OTHER_TABLES = (".csv", ".tsv", ".xlsx", ".xls")


def _output(input: Path, output: Path | None) -> Path:
    if output is not None:
        if output.suffix.lower() in _OTHER_TABLES:
            raise UsageError(f"--output: {output}: results are .parquet or OpenAI's batch format")
        return output
    if str(input) == "-":
        raise UsageError("--output is needed for rows from standard input")
    if not input.name or input.is_dir():
        raise UsageError(f"{input} is a folder: name a file of prompts")
    return input.with_name(f"{input.stem}.output.jsonl")


def _limits(
    max_in_flight: int | None,
    rpm: int | None,
    tpm: int | None,
    max_cost: int | None,
    max_failures: int | None,
    attempts: int,
) -> "Limits":
    from registry.batch import Limits

    return Limits(
        max_in_flight=max_in_flight,
        requests_per_minute=rpm,
        tokens_per_minute=tpm,
        max_tokens=max_cost,
        max_failures=max_failures,
        max_attempts=attempts,
    )


def _on_ray(address: str | None, actors: int | None) -> "OnRay | None":
    from registry.cli.terminal.bulk import OnRay

    if address is None and actors is not None:
        raise UsageError("--ray-actors needs --ray")
    return None if address is None else OnRay(address, actors)


def _template(text: str | None) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    return read_text(Path(text[1:]), "--template")


def _format(name: str | None) -> Any:
    if name not in (None, "openai", "jsonl", "csv", "parquet"):
        raise UsageError(f"--format must be openai, jsonl, csv or parquet, got {name!r}")
    return name


def _fields(
    model: str | None,
    max_tokens: int | None,
    temperature: float | None,
    json_schema: Path | None,
    pairs: list[str],
) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "model": model,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "response_format": None if json_schema is None else read_schema(json_schema),
    }
    make_task({**fields, "messages": [{"role": "user", "content": "x"}]})  # check the options
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not (name and separator):
            raise UsageError(f"--field must be KEY=VALUE, got {pair!r}")
        try:
            fields[name] = json.loads(text)
        except (ValueError, RecursionError):
            fields[name] = text
    return {name: value for name, value in fields.items() if value is not None}


COMMAND = Command(
    "batch",
    batch,
    (
        "worker-adapters batch run requests.jsonl -o answers.jsonl",
        "worker-adapters batch run reviews.csv --template 'Good or bad? {text}' -m llama-3",
        "worker-adapters batch status requests.jsonl",
    ),
    (
        Command(
            "run",
            run,
            (
                "worker-adapters batch run requests.jsonl",
                "worker-adapters batch run reviews.csv --prompt-column text -o out.parquet",
            ),
        ),
        Command("status", show_status, ("worker-adapters batch status requests.jsonl",)),
        Command("retry-failed", retry_failed, ("worker-adapters batch retry-failed in.jsonl",)),
    ),
)
