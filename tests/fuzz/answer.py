"""Coverage-guided fuzzing of all that a server's body goes through: decoder, chunks, errors.

    pip install atheris && python -m tests.fuzz.answer -max_total_time=300

A finding is any exception but those that a caller expects.
"""

import sys

import atheris

with atheris.instrument_imports(include=["adapters"]):
    from adapters.http_util import DecodeLimitError, SSEDecoder, read_error_body
    from adapters.openai_http.refusals import refused_fields
    from adapters.openai_http.wire import Answer

from adapter_api import WorkerError

_FIRST = b'data: {"id":"cmpl-1","choices":[{"index":0,"text":"a","finish_reason":null}]}\n\n'


def _read(pieces: list[bytes]) -> list[str]:
    decoder, answer = SSEDecoder(max_line_bytes=2000, max_event_bytes=4000), Answer()
    texts: list[str] = []
    try:
        for piece in pieces:
            for event in decoder.feed(piece):
                token = answer.read(event)
                if token is not None:
                    assert token.text
                    assert token.index == len(texts)
                    token.text.encode()
                    texts.append(token.text)
        answer.proof()
    except WorkerError as error:
        texts.append(f"<{error.code}>")
        str(error).encode("utf-8", "surrogatepass")
    except DecodeLimitError:
        texts.append("<limit>")
    return texts


def one_input(data: bytes) -> None:
    """Whole and byte by byte must read the same; no input may raise anything else."""
    stream = _FIRST + data
    whole = _read([stream])
    if len(stream) < 300:
        single = _read([stream[i : i + 1] for i in range(len(stream))])
        if "<limit>" not in (whole[-1:] + single[-1:]):
            assert whole == single, (whole, single)
    body = read_error_body(data)
    refused_fields(400, body, ["seed", "stop", "stream_options"], chat=True)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
