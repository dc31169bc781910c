"""Lines of standard input become tasks."""

import pytest

from registry.serving.tasks import BadLine, Submit, parse_line


def test_a_line_without_a_pool_goes_to_the_only_one() -> None:
    """With one pool, tasks need not name it."""
    request = parse_line(b'{"prompt": "hi"}', lambda: ["chat"])
    assert isinstance(request, Submit)
    assert (request.pool_id, request.task.prompt) == ("chat", "hi")


@pytest.mark.parametrize(
    ("pools", "message"),
    [(["a", "b"], "this run has a, b"), ([], "this run has none yet")],
)
def test_a_line_without_a_pool_is_refused_where_it_is_not_clear(
    pools: list[str], message: str
) -> None:
    """The job's own frame names the pools."""
    with pytest.raises(BadLine, match=message) as caught:
        parse_line(b'{"prompt": "hi", "job_id": "j1"}', lambda: pools)
    assert caught.value.job_id == "j1"
