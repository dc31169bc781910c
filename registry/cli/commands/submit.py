"""`submit`: run one job and show its answer as it comes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from registry.cli.terminal.arguments import (
    Adapter,
    BaseUrl,
    JsonSchema,
    MaxTokens,
    Model,
    Options,
    Pool,
    Temperature,
    Url,
    Workers,
    is_address,
    one_url,
)
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.jobs import run_job
from registry.cli.terminal.pools import chosen
from registry.cli.terminal.prompts import (
    make_task,
    messages_of,
    read_prompt,
    read_schema,
    read_tools,
)
from registry.cli.terminal.status import UsageError
from registry.cli.terminal.streams import out
from registry.cli.terminal.wording import in_our_words, in_words_of_the_file


def submit(
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT",
            help="The prompt. Without one, or with -, standard input is the prompt.",
        ),
    ] = None,
    url: Url = None,
    adapter: Adapter = "openai-http",
    base_url: BaseUrl = None,
    model: Model = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER", help="Sample from this share of the likeliest tokens: 0 to 1."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Makes the answer repeatable.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Text to end at; repeatable.")
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline", "-d", metavar="SECONDS", help="The limit from submit to the last token."
        ),
    ] = None,
    chat: Annotated[
        bool,
        typer.Option(
            "--chat",
            "-c",
            help="Send the prompt as a chat message, as --system, --image, --tools and "
            "--json-schema do.",
        ),
    ] = False,
    system: Annotated[
        str | None,
        typer.Option("--system", "-s", metavar="TEXT", help="A system message."),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            "--image",
            "-i",
            metavar="FILE",
            help="An image for the model; repeatable.",
        ),
    ] = None,
    tools: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A JSON file of tools the model may call."),
    ] = None,
    json_schema: JsonSchema = None,
    reasoning: Annotated[
        bool | None,
        typer.Option(
            "--reasoning/--no-reasoning",
            help="Show the model's reasoning; by default on a terminal only.",
        ),
    ] = None,
    frames: Annotated[
        bool, typer.Option("--frames", "-f", help="Print events as JSON frames, one per line.")
    ] = False,
    option: Options = None,
    workers: Workers = None,
    pool: Pool = None,
) -> Action:
    """Run one job and stream its answer to standard output."""
    given = url or base_url or workers
    if given is None and prompt is not None and is_address(prompt):
        raise UsageError(
            f"{prompt} was taken for the prompt: type one before it, or - for standard input"
        )
    begin = chosen(adapter, one_url(url, base_url), option, workers, pool)

    def action() -> int:
        text = read_prompt(prompt)
        fields: dict[str, Any] = {
            "model": model,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "stop": stop,
            "deadline_s": deadline,
            "tools": None if tools is None else read_tools(tools),
            "include_reasoning": out().isatty() and not frames if reasoning is None else reasoning,
            "response_format": None if json_schema is None else read_schema(json_schema),
        }
        if chat or tools or json_schema or image or system is not None:
            fields["messages"] = messages_of(text, system, image or [])
        else:
            fields["prompt"] = text
        words = in_our_words if workers is None else in_words_of_the_file
        return run_job(begin, make_task(fields), frames=frames, words=words)

    return action


COMMAND = Command(
    "submit",
    submit,
    (
        'worker-adapters submit "Hello" http://localhost:8000 --max-tokens 20',
        "git diff | worker-adapters submit --chat --system 'Write a commit message.'",
        "worker-adapters submit 'What is in it?' --image photo.png --json-schema answer.json",
        'worker-adapters submit "Hello" --workers workers.toml --pool chat --frames',
    ),
)
