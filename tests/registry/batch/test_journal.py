"""The journal: what was finished is never lost or doubled, wherever writing stops."""

import asyncio
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.batch.errors import BatchError
from registry.batch.journal import Header, Journal, count

HEADER = Header("0" * 64, 5, {"model": '"m"'})


async def fill(path: Path, rows: int = 3) -> None:
    """Write a journal with this many answered rows."""
    journal = Journal(path, HEADER)
    for number in range(rows):
        journal.append(number, "ok", b'{"row":%d}' % number)
    await journal.flush()
    journal.close()


async def test_a_journal_is_continued(tmp_path: Path) -> None:
    """A journal that is opened again knows its rows, in the input's order."""
    path = tmp_path / "out.journal"
    await fill(path)
    journal = Journal(path, HEADER)
    assert [journal.finished(number) for number in range(5)] == [True, True, True, False, False]
    journal.append(4, "error", b"{}")
    await journal.flush()
    assert (journal.answered, journal.failed) == (3, 1)
    assert [(number, outcome) for number, outcome, _ in journal.results()] == [
        (0, "ok"),
        (1, "ok"),
        (2, "ok"),
        (4, "error"),
    ]
    journal.close()
    assert count(path)[1:] == (3, 1)


@settings(max_examples=30)
@given(cut=st.integers(0, 400), junk=st.binary(max_size=30))
def test_a_cut_loses_only_what_was_cut(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes
) -> None:
    """A journal cut at any byte, with rubbish behind, keeps every whole line and takes new ones."""
    path = tmp_path_factory.mktemp("cut") / "out.journal"
    asyncio.run(fill(path))
    whole = path.read_bytes()
    data = whole[:cut] + junk
    path.write_bytes(data)
    header_ends = whole.index(b"\n") + 1
    lines = sum(_is_whole(data, whole, end) for end in _ends(whole)[1:])

    async def resumed() -> None:
        try:
            journal = Journal(path, HEADER)
        except BatchError:
            assert cut < header_ends  # the header itself is rubbish: refused, not overwritten
            return
        try:
            assert journal.answered == lines
            journal.append(4, "ok", b"{}")
            await journal.flush()
            numbers = [number for number, _, _ in journal.results()]
            assert numbers == [*range(lines), 4]
        finally:
            journal.close()
        again = Journal(path, HEADER)
        assert again.answered == lines + 1
        again.close()

    asyncio.run(resumed())


def _ends(data: bytes) -> list[int]:
    """Return where the lines end, without their line feeds."""
    return [place for place, byte in enumerate(data) if byte == 10]


def _is_whole(data: bytes, whole: bytes, end: int) -> bool:
    """Return whether the line that ends at `end` survived."""
    return data[:end] == whole[:end] and data[end : end + 1] in (b"", b"\n")


async def test_the_latest_result_of_a_row_counts(tmp_path: Path) -> None:
    """A failed row that is sent again has one result: the new one."""
    path = tmp_path / "out.journal"
    journal = Journal(path, HEADER)
    journal.append(0, "error", b'"old"')
    assert journal.reopen_failed() == 1
    assert not journal.finished(0)
    journal.append(0, "ok", b'"new"')
    await journal.flush()
    assert list(journal.results()) == [(0, "ok", b'"new"')]
    journal.close()


async def test_another_input_is_refused(tmp_path: Path) -> None:
    """A journal of another input or plan is refused with what changed; the plan may be accepted."""
    path = tmp_path / "out.journal"
    await fill(path)
    with pytest.raises(BatchError, match="content has changed"):
        Journal(path, Header("1" * 64, 5, HEADER.plan))
    changed = Header(HEADER.input_sha256, 5, {"model": '"other"'})
    with pytest.raises(BatchError, match='model was "m" and is "other"'):
        Journal(path, changed)
    Journal(path, changed, accept_changes=True).close()


async def test_a_foreign_file_is_not_overwritten(tmp_path: Path) -> None:
    """A file that is not a journal is refused and stays."""
    path = tmp_path / "out.journal"
    path.write_text("my notes\n")
    with pytest.raises(BatchError, match="not a journal"):
        Journal(path, HEADER)
    assert path.read_text() == "my notes\n"


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A journal that is open cannot be opened a second time."""
    path = tmp_path / "out.journal"
    journal = Journal(path, HEADER)
    with pytest.raises(BatchError, match="another process"):
        Journal(path, HEADER)
    journal.close()
    Journal(path, HEADER).close()


async def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full ends the run with the system's error; what was written stays."""
    path = tmp_path / "out.journal"
    await fill(path)
    journal = Journal(path, HEADER)

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            journal.append(3, "ok", b"{}")
    with pytest.raises(OSError, match="No space"):
        journal.append(4, "ok", b"{}")
    with pytest.raises(OSError, match="No space"):
        await journal.flush()
    journal.close()
    again = Journal(path, HEADER)
    assert again.answered == 3
    again.close()
