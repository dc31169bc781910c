"""Helpers for the tests of recordings and replays: a key to hide, and a job's frames to compare."""

from typing import Any

from adapter_api import TaskRequest

KEY = "correct-horse-battery-staple"
"""The text that no recording contains."""

LIMITS = {"first_token_timeout_s": 1.0, "stall_timeout_s": 1.0}
"""Limits for answers that stop. The virtual clock counts processor time, too, of which a hostile
answer takes tenths of a second on a slow machine."""


async def frames_of(adapter: Any, task: TaskRequest) -> list[dict[str, Any]]:
    """The job's frames, without what time decides."""
    frames = [frame async for frame in adapter.submit(task).frames()]
    for frame in frames:
        for name in ("job_id", "metrics"):
            frame.pop(name, None)
    return frames


def without_key(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return frames in which a repeated key is KEY, x in a recording and redacted in an error.

    The advice behind a refusal is left out: a replay sends no key.
    """
    texts = ("x" * len(KEY), "[redacted]")
    for frame in frames:
        message = frame.get("message", "").partition("}}. ")[0]
        for text in texts:
            message = message.replace(text, "KEY")
        frame["message"] = message
    return frames
