"""Coverage-guided fuzzing of all that a server's body goes through: decoder, chunks, errors.

    pip install atheris && python -m tests.fuzz.answer -max_total_time=300

A finding is any exception but those that a caller expects.
"""

import sys

import atheris

with atheris.instrument_imports(include=["adapters"]):
    from adapters.http_util import SSEDecoder, read_error_body
    from adapters.openai_http.answer import AnswerReader
    from adapters.openai_http.outcome import Phase, Wanted
    from adapters.openai_http.refusals import refused_fields

from adapter_api import Token, WorkerError

_FIRST = b'data: {"id":"cmpl-1","choices":[{"index":0,"text":"a","finish_reason":null}]}\n\n'


def _read(pieces: list[bytes]) -> list[str]:
    decoder = SSEDecoder(max_line_bytes=2000, max_event_bytes=4000)
    reader = AnswerReader(Wanted(reasoning=True, history=True), decoder=decoder)
    found: list[str] = []
    tokens = []
    try:
        for piece in pieces:
            tokens += reader.feed(piece)
            if reader.phase is Phase.CLOSED:
                break
        tokens += reader.end()
        verdict = reader.finish()
        tokens += verdict.tokens
        for call in verdict.tool_calls:
            call.json()
    except WorkerError as error:
        found.append(f"<{error.code}>")
        str(error).encode("utf-8", "surrogatepass")
    assert [token.index for token in tokens] == list(range(len(tokens)))
    for token in tokens:
        assert token.text or type(token) is not Token
        token.text.encode()
    return [*map(str, tokens), *found]


def one_input(data: bytes) -> None:
    """Whole and byte by byte must read the same; no input may raise anything else."""
    stream = _FIRST + data
    whole = _read([stream])
    if len(stream) < 300:
        single = _read([stream[i : i + 1] for i in range(len(stream))])
        if not any("limit" in text for text in (whole[-1:] + single[-1:])):
            assert whole == single, (whole, single)
    body = read_error_body(data)
    refused_fields(400, body, ["seed", "stop", "stream_options"], chat=True)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
