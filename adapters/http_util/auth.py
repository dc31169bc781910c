"""Credentials in requests, as helpers; nothing here reads the environment (HTU-CAP-1005)."""

from collections.abc import MutableMapping

from adapter_api import ErrorCode, InvalidRequest


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


def with_bearer(headers: MutableMapping[str, str], token: str) -> MutableMapping[str, str]:
    """Add `Authorization: Bearer <token>` to `headers`; returns them."""
    headers["Authorization"] = f"Bearer {check_credential(token, 'the bearer token')}"
    return headers
