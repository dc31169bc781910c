"""Hypothesis strategies for the contract's data."""

from hypothesis import strategies as st

from adapter_api import (
    End,
    Error,
    ErrorCode,
    Metrics,
    MetricsFrame,
    Started,
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
