"""What was asked of the local cloud: one line per API call, kept in SQLite."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import asdict, dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER NOT NULL,
    agent TEXT NOT NULL,
    permission TEXT NOT NULL,
    took_effect INTEGER NOT NULL,
    account TEXT NOT NULL,
    demanded TEXT NOT NULL
)
"""


@dataclass(frozen=True)
class Entry:
    """One answered call; `path` includes the query, `permission` is empty for what is no API of Google's.

    `account` is whose it was, if anybody's; `demanded` has all permissions that were asked of it, with blanks
    between them, if any were.

    It took effect where the service itself answered with success, whatever the caller was told. A call that
    was answered with what it had done before had its effect then.
    """

    id: int
    time: str
    method: str
    path: str
    status: int
    agent: str
    permission: str = ""
    took_effect: bool = False
    account: str = ""
    demanded: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


_values = attrgetter(*(each.name for each in fields(Entry) if each.name != "id"))


class Journal:
    """Append-only; thread-safe."""

    def __init__(self, path: Path | str) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(str(path), check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(
            "PRAGMA synchronous=OFF"
        )  # a record for people: losing its tail on power loss is fine
        self._db.execute(_SCHEMA)

    def record(self, entry: Entry) -> None:
        """Its id is not looked at: the journal gives one."""
        with self._lock:
            self._db.execute(
                "INSERT INTO calls"
                " (time, method, path, status, agent, permission, took_effect, account, demanded)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                _values(entry),
            )

    def entries(
        self, after: int = 0, limit: int = 1000, permission: str = "*", effective: bool = False
    ) -> list[Entry]:
        """The newest `limit` entries with an id above `after` and a permission like this one, oldest first.

        `*` in `permission` stands for anything. Only what took effect, if that is wanted.
        """
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM (SELECT * FROM calls WHERE id > ? AND permission GLOB ? AND took_effect >= ?"
                " ORDER BY id DESC LIMIT ?) ORDER BY id",
                (after, permission, effective, limit),
            ).fetchall()
        return [replace(Entry(*row), took_effect=bool(row[7])) for row in rows]

    def count(self, permission: str = "*", effective: bool = False) -> int:
        """How many entries there are of these, however many `entries` would give at once."""
        with self._lock:
            (found,) = self._db.execute(
                "SELECT COUNT(*) FROM calls WHERE permission GLOB ? AND took_effect >= ?",
                (permission, effective),
            ).fetchone()
        return int(found)

    def close(self) -> None:
        with self._lock:
            self._db.close()
