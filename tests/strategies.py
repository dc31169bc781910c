"""Hypothesis strategies for the contract's data."""

import string

from hypothesis import strategies as st

from adapter_api import (
    End,
    Error,
    ErrorCode,
    Metrics,
    MetricsFrame,
    Started,
    TaskRequest,
    Token,
    WorkerError,
)

texts = st.text(min_size=1, max_size=20)
counts = st.integers(0, 2**40)
milliseconds = st.none() | st.floats(0, 1e9, allow_nan=False)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip

metrics = st.builds(
    Metrics,
    tokens_generated=counts,
    prompt_tokens=st.none() | counts,
    time_to_first_token_ms=milliseconds,
    decode_time_ms=st.floats(0, 1e9, allow_nan=False),
    usage_source=st.sampled_from(["engine", "counted"]),
    attempts=st.integers(1, 9),
)

errors = st.builds(
    lambda code, message, retriable, wait: WorkerError.of(
        code, message, retriable=retriable, retry_after_ms=wait
    ),
    st.sampled_from(ErrorCode),
    texts,
    st.booleans(),
    st.none() | counts,
)

events = st.one_of(
    st.builds(
        Started,
        job_id=texts,
        engine=texts,
        engine_version=texts,
        model=st.none() | texts,
        seed=st.none() | st.integers(-(2**63), 2**63),
        replica_id=st.none() | texts,
    ),
    st.builds(
        Token, text=texts, index=counts, logprob=st.none() | st.floats(-1e9, 0, allow_nan=False)
    ),
    st.builds(MetricsFrame, data=st.dictionaries(st.text(max_size=5), json_values, max_size=3)),
    st.builds(
        End,
        metrics=metrics,
        finish_reason=st.none() | texts,
        proof=st.sampled_from(["finish_reason", "done"]),
    ),
    st.builds(Error, error=errors),
)

anything = st.one_of(
    json_values,
    st.floats(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.binary(max_size=4),
    st.text(max_size=300),
    st.lists(st.text(max_size=4) | st.integers(), max_size=3),
    st.tuples(st.text(max_size=4)),
    st.sampled_from([object(), int, 3j, -0.0]),
)

message_mappings = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant"]) | texts.filter("tool".__ne__),
        "content": st.text(max_size=20)
        | st.lists(
            st.fixed_dictionaries({"type": st.just("text"), "text": texts}), min_size=1, max_size=2
        ),
    },
    optional={"name": texts},
)

ids = st.text(string.ascii_letters + string.digits + "-_.:/", min_size=1, max_size=40)

tasks = st.builds(
    TaskRequest,
    model=st.none() | ids,
    prompt=st.text(max_size=40),
    max_tokens=st.none() | st.integers(1, 2**20),
    job_id=ids,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    seed=st.none() | st.integers(),
    stop=st.none() | texts | st.lists(texts, max_size=3),
    session_id=st.none() | ids,
    correlation_id=st.none() | ids,
    deadline_s=st.none() | st.floats(0.001, 1e6),
    max_attempts=st.none() | st.integers(1, 100),
    extra=st.dictionaries(texts, json_values, max_size=2),
)
