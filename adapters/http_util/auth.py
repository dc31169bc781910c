"""Credentials in requests, as helpers; nothing here reads the environment (HTU-CAP-1005)."""

from collections.abc import MutableMapping
from typing import TypeVar

import httpx

from adapter_api import ErrorCode, InvalidRequest

_Target = TypeVar("_Target", bound=MutableMapping[str, str] | httpx.Request)


def check_credential(value: str, where: str) -> str:
    """`value`, if it can stand in a header.

    Raises:
        InvalidRequest: INVALID_PARAMS, without showing the value.
    """
    if not value or not value.isascii() or not value.isprintable() or value != value.strip():
        raise InvalidRequest(
            ErrorCode.INVALID_PARAMS,
            f"{where} must be a non-empty string of printable ASCII characters without spaces "
            "around it (a line break from a file is a frequent cause)",
        )
    return value


def with_bearer(target: _Target, token: str) -> _Target:
    """Add `Authorization: Bearer <token>` to headers, or to those of a request.

    Args:
        target: What is changed, in place.
        token: The token, without a scheme.

    Returns:
        `target`.

    Raises:
        InvalidRequest: INVALID_PARAMS if the token cannot stand in a header.
    """
    headers = target.headers if isinstance(target, httpx.Request) else target
    headers["Authorization"] = f"Bearer {check_credential(token, 'the bearer token')}"
    return target
