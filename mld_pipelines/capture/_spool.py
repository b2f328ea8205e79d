"""The local spool: where a record is once it counts as acknowledged."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mld_pipelines import settings
from mld_pipelines.capture._ledger import Ledger
from mld_pipelines.capture._locks import FileLock
from mld_pipelines.capture._segment import Segment, encode
from mld_pipelines.exceptions import InvalidInputError, StorageError
from mld_pipelines.records import uuid7

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SegmentFile", "Spool", "StreamFolder", "check_stream_id"]

_STREAM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
_SEGMENT = re.compile(r"(?P<table>[a-z_.]+)-(?P<first>\d{12})-(?P<last>\d{12})-r(?P<rows>\d+)\.seg")
_LEFTOVER = "~"
"""Separates a stream id from a random suffix in the folder of an earlier run of the same stream."""


def check_stream_id(stream_id: object) -> str:
    """Return a stream id that can name a folder.

    Raises:
        InvalidInputError: It is no string of 1 … 120 letters, digits, dots, dashes and underscores.
    """
    if not isinstance(stream_id, str) or not _STREAM_ID.fullmatch(stream_id):
        raise InvalidInputError(
            f"stream_id {stream_id!r} must start with a letter or digit and go on with up to 119 letters, digits, '.', "
            "'-' or '_'."
        )
    return stream_id


@contextmanager
def _refusals(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the spool {folder} cannot be written: {error.strerror or error}. Nothing was written there. Free space, "
            "or set MLD_HOME to a writable folder."
        ) from error


@dataclass(frozen=True, slots=True, order=True)
class SegmentFile:
    """A whole segment in the spool; the name says what is inside, so counting needs no reading."""

    first_seq: int
    last_seq: int
    rows: int
    table: str
    path: Path
    size: int


class Spool:
    """All streams of one lake in one state directory.

    Args:
        root: Root of the lake the streams are for.
        home: State directory; default `settings.state_directory()`.
    """

    def __init__(self, root: str, *, home: Path | None = None) -> None:
        self.root = root
        self.home = settings.state_directory() if home is None else home
        self.folder = self.home / "spool" / hashlib.sha256(root.encode()).hexdigest()[:16]

    def create(self) -> None:
        """Make the folder and note which lake it is for.

        Raises:
            StorageError: The folder cannot be written.
        """
        with _refusals(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            note = self.folder / "lake.json"
            if not note.exists():
                _write_whole(note, json.dumps({"root": self.root}).encode(), is_durable=False)

    def committer_lock(self) -> FileLock:
        """Lock of the one process that commits to the lake for all others of the machine."""
        return FileLock(self.folder / "committer.lock")

    def streams(self) -> list[StreamFolder]:
        """Return the folders of all streams, leftovers of earlier runs first."""
        if not self.folder.is_dir():
            return []
        folders = [entry for entry in self.folder.iterdir() if entry.is_dir()]
        return [StreamFolder(entry) for entry in sorted(folders, key=lambda e: (_LEFTOVER not in e.name, e.name))]

    def size(self) -> int:
        """Return the bytes of all segments that are not committed yet."""
        return sum(file.size for folder in self.streams() for file in folder.segments())

    @staticmethod
    def all_of(home: Path | None = None) -> list[Spool]:
        """Return the spools of every lake in a state directory."""
        home = settings.state_directory() if home is None else home
        notes = sorted((home / "spool").glob("*/lake.json"))
        return [Spool(json.loads(note.read_text())["root"], home=home) for note in notes]


class StreamFolder:
    """One stream of one process: its segments, its ledger and its lease."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stream_id = path.name.partition(_LEFTOVER)[0]
        self.ledger = Ledger(path / "ledger.json")
        self._lease = FileLock(path / "lease")

    def open(self) -> bool:
        """Take the lease and put segments of an earlier run of the stream aside; False if another process has it.

        Raises:
            StorageError: The folder cannot be written.
        """
        with _refusals(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if not self._lease.acquire():
                return False
            self._clear()
        return True

    def _clear(self) -> None:
        leftovers = list(self.segments())
        aside = self.path.with_name(f"{self.path.name}{_LEFTOVER}{uuid7()}")
        for segment in leftovers:
            aside.mkdir(exist_ok=True)
            segment.path.rename(aside / segment.path.name)
        self.ledger.clear()
        for partial in self.path.glob("*.tmp"):
            partial.unlink()

    def adopt(self) -> bool:
        """Take the lease of a stream whose process has ended; False if it lives."""
        return self._lease.acquire()

    def write(self, segment: Segment) -> SegmentFile:
        """Store a segment durably: when this returns, a crash of process or machine does not lose it."""
        name = f"{segment.table.replace('/', '.')}-{segment.first_seq:012d}-{segment.last_seq:012d}-r{segment.rows}.seg"
        data = encode(segment)
        _write_whole(self.path / name, data, is_durable=True)
        return SegmentFile(
            segment.first_seq, segment.last_seq, segment.rows, segment.table, self.path / name, len(data)
        )

    def segments(self) -> Iterator[SegmentFile]:
        """Yield the segments that are not committed yet, in the order of their batches."""
        yield from sorted(self._found(), key=lambda file: (file.table, file.first_seq))

    def _found(self) -> Iterator[SegmentFile]:
        try:
            entries = list(os.scandir(self.path))
        except FileNotFoundError:  # an empty folder of a finished stream is removed by whoever commits
            return
        for entry in entries:
            if match := _SEGMENT.fullmatch(entry.name):
                try:
                    size = entry.stat().st_size
                except FileNotFoundError:
                    continue
                table = match["table"].replace(".", "/")
                yield SegmentFile(
                    int(match["first"]), int(match["last"]), int(match["rows"]), table, Path(entry.path), size
                )

    def set_aside(self, file: SegmentFile, *, reason: str) -> None:
        """Keep a segment that can never be committed, out of the way."""
        folder = self.path / reason
        folder.mkdir(exist_ok=True)
        file.path.rename(folder / file.path.name)

    def close(self) -> None:
        """Give the lease up; the folder goes if nothing is left in it."""
        self.ledger.refresh()  # the counts outlive the folder
        self._lease.release()
        self.remove_if_done()

    def remove_if_done(self) -> None:
        """Remove the folder of a stream that has ended and is committed completely."""
        if not self.path.is_dir() or any(self._found()) or any(entry.is_dir() for entry in self.path.iterdir()):
            return
        if self._lease.acquire():  # nobody owns it any more
            shutil.rmtree(self.path, ignore_errors=True)
            self._lease.release()


def _write_whole(path: Path, data: bytes, *, is_durable: bool) -> None:
    """Write a file that is seen either whole or not at all."""
    partial = path.with_name(f"{path.name}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(data)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
        if is_durable:
            _sync_folder(path.parent)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
