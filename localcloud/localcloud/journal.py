"""What was asked of the local cloud: one line per API call, kept in SQLite."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER NOT NULL,
    agent TEXT NOT NULL
)
"""


@dataclass(frozen=True)
class Entry:
    """One answered call; `path` includes the query."""

    id: int
    time: str
    method: str
    path: str
    status: int
    agent: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


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

    def record(self, time: str, method: str, path: str, status: int, agent: str) -> None:
        with self._lock:
            self._db.execute(
                "INSERT INTO calls (time, method, path, status, agent) VALUES (?, ?, ?, ?, ?)",
                (time, method, path, status, agent),
            )

    def entries(self, after: int = 0, limit: int = 1000) -> list[Entry]:
        """The newest `limit` entries with an id above `after`, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM (SELECT * FROM calls WHERE id > ? ORDER BY id DESC LIMIT ?) ORDER BY id",
                (after, limit),
            ).fetchall()
        return [Entry(*row) for row in rows]

    def close(self) -> None:
        with self._lock:
            self._db.close()
