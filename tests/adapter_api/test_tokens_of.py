"""Tokens made many at once are Tokens like any other."""

import copy
import pickle

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import Token
from adapter_api.events import tokens_of


@given(st.lists(st.text(min_size=1)), st.integers(0, 10**9))
def test_they_equal_those_made_one_by_one(texts: list[str], index: int) -> None:
    """Type, attributes, equality and hash are the same."""
    tokens = tokens_of(texts, index)
    expected = [Token(text, at) for at, text in enumerate(texts, index)]
    assert tokens == expected
    assert [type(token) for token in tokens] == [Token] * len(texts)
    assert list(map(hash, tokens)) == list(map(hash, expected))
    assert list(map(repr, tokens)) == list(map(repr, expected))


def test_they_are_frozen_and_may_be_copied() -> None:
    """The promise of attrs.frozen holds for them, and so does everything attrs and pickle do."""
    (token,) = tokens_of(["a"], 7)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        token.text = "b"  # type: ignore[misc]
    assert attrs.asdict(token) == {"text": "a", "index": 7, "logprob": None}
    assert attrs.evolve(token, text="b") == Token("b", 7)
    assert copy.copy(token) == token
    assert pickle.loads(pickle.dumps(token)) == token
    match token:
        case Token(text=text, index=index):
            assert (text, index) == ("a", 7)


def test_nothing_is_forgotten_when_token_grows() -> None:
    """A draft fills every attribute that a Token has."""
    (token,) = tokens_of(["a"], 0)
    assert all(hasattr(token, field.name) for field in attrs.fields(Token))
