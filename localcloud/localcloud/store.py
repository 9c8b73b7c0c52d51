"""Every resource of the local cloud, as JSON documents in one SQLite file.

A document has a kind and a key; the key is the full resource path (`projects/p/zones/z/instances/n`).
What the documents mean is known to the services alone. What was read is held in memory until it is written
again, so that a list of thousands of VMs does not parse a script of twenty thousand characters for each, nor
does a new VM ask all others for their names again.
"""

from __future__ import annotations

import json
import marshal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Json = dict[str, Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL,
    key  TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID
"""
_AFTER_EVERY_KEY = "\U0010ffff"
_MOST_HELD = 50_000  # documents in memory at most


class AlreadyExists(Exception):
    """`insert` met a document of the same kind and key; use `put` to replace it."""

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"{kind} {key} already exists")
        self.kind = kind
        self.key = key


class Store:
    """A thread-safe document store; a restart forgets nothing."""

    def __init__(self, path: Path | str) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._revisions: Counter[str] = Counter()
        # Documents by kind and key, in a form that makes a new object six times as fast as JSON does; empty
        # for a key that has no document.
        self._held: dict[tuple[str, str], bytes] = {}
        self._shown: dict[tuple[str, str], Json] = {}  # those of them that `show` has handed out
        self._columns: dict[tuple[str, str], dict[str, str]] = {}  # by kind and field: a text by key
        self.on_write: Callable[[str, str], object] = _nobody
        """Told the kind and key of every change, in the middle of its transaction."""
        self._db = sqlite3.connect(str(path), check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(_SCHEMA)

    @property
    def revision(self) -> int:
        """Grows with every write of this process: cheap for long polls to see that something changed."""
        return self._revisions.total()

    def revisions(self, *kinds: str) -> tuple[int, ...]:
        """Of these kinds alone; what was read from them holds until one of these grows."""
        return tuple(self._revisions[kind] for kind in kinds)

    def insert(self, kind: str, key: str, body: Json) -> None:
        """Add a document; raises AlreadyExists."""
        with self.transaction():
            try:
                self._write("INSERT INTO documents VALUES (?, ?, ?)", kind, key, body)
            except sqlite3.IntegrityError as error:
                raise AlreadyExists(kind, key) from error

    def get(self, kind: str, key: str) -> Json | None:
        with self._lock:
            held = self._body(kind, key)
        return None if held is None else _load(held)

    def _body(self, kind: str, key: str) -> bytes | None:
        held = self._held.get((kind, key))
        if held is not None:
            return held or None
        row = self._db.execute(
            "SELECT body FROM documents WHERE kind = ? AND key = ?", (kind, key)
        ).fetchone()
        held = self._hold(kind, key, b"" if row is None else _packed(row[0]))
        return held or None

    def _hold(self, kind: str, key: str, packed: bytes) -> bytes:
        if len(self._held) >= _MOST_HELD:
            self._held.clear()
        self._held[kind, key] = packed
        return packed

    def put(self, kind: str, key: str, body: Json) -> None:
        """Add or replace a document."""
        with self.transaction():
            self._write("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", kind, key, body)

    def delete(self, kind: str, key: str) -> bool:
        """True if there was such a document."""
        with self.transaction():
            return self._write("DELETE FROM documents WHERE kind = ? AND key = ?", kind, key) > 0

    def _write(self, statement: str, kind: str, key: str, body: Json | None = None) -> int:
        """How many documents it has changed. None: the one that was there goes."""
        given = () if body is None else (_dump(body),)
        changed = self._db.execute(statement, (kind, key, *given)).rowcount
        self._held.pop((kind, key), None)
        self._shown.pop((kind, key), None)
        for (of, field), column in self._columns.items():
            if of == kind:
                column.pop(key, None)
                if body is not None:
                    column[key] = _text(body, field)
        self._revisions[kind] += changed
        self.on_write(kind, key)
        return changed

    def column(self, kind: str, field: str) -> list[tuple[str, str]]:
        """One text of each document by its key, without reading the rest: `field` as in `body.status`."""
        with self._lock:
            column = self._columns.get((kind, field))
            if column is None:
                column = {key: _text(body, field) for key, body in self.list(kind)}
                self._columns[kind, field] = column
            return sorted(column.items())

    def index(self, kind: str, field: str) -> None:
        """Let `find` look these documents up by a field, now and after a restart."""
        place = f"documents (json_extract(body, '$.{field}')) WHERE kind = '{kind}'"
        with self._lock:
            self._db.execute(f"CREATE INDEX IF NOT EXISTS '{kind} by {field}' ON {place}")

    def find(self, kind: str, field: str, text: str) -> list[tuple[str, Json]]:
        """Documents with this text in a field; without an `index` all of the kind are read for it."""
        # No parameters: SQLite uses such an index only where the query spells the expression as it does.
        where = f"kind = '{kind}' AND json_extract(body, '$.{field}') = ?"
        with self._lock:
            rows = self._db.execute(f"SELECT key FROM documents WHERE {where}", (text,)).fetchall()  # noqa: S608
            held = [(key, self._body(kind, key)) for (key,) in rows]
        return [(key, _load(body)) for key, body in held if body is not None]

    def show(self, kind: str, prefix: str = "") -> list[tuple[str, Json]]:
        """As `list`, but they are the store's own: to be looked at, and never to be changed."""
        with self._lock:
            return [(key, self._show(kind, key, held)) for key, held in self._within(kind, prefix)]

    def _show(self, kind: str, key: str, held: bytes) -> Json:
        shown = self._shown.get((kind, key))
        if shown is None:
            if len(self._shown) >= _MOST_HELD:
                self._shown.clear()
            shown = self._shown[kind, key] = _load(held)
        return shown

    def _within(self, kind: str, prefix: str) -> list[tuple[str, bytes]]:
        within = "FROM documents WHERE kind = ? AND key >= ? AND key < ? ORDER BY key"
        bounds = kind, prefix, prefix + _AFTER_EVERY_KEY
        keys = [key for (key,) in self._db.execute(f"SELECT key {within}", bounds)]
        if 2 * sum((kind, key) in self._held for key in keys) < len(keys):  # one query, not one for each
            rows = self._db.execute(f"SELECT key, body {within}", bounds).fetchall()
            return [(key, self._hold(kind, key, _packed(text))) for key, text in rows]
        return [(key, found) for key in keys if (found := self._body(kind, key)) is not None]

    def list(self, kind: str, prefix: str = "") -> list[tuple[str, Json]]:
        """Documents whose key starts with `prefix`, ordered by key."""
        with self._lock:
            within = self._within(kind, prefix)
        return [(key, _load(body)) for key, body in within]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside happen, or none; other threads wait. May be nested."""
        with self._lock:
            if self._depth == 0:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._db.execute("ROLLBACK")
                    self._revisions.update(self._revisions.keys())  # what was read meanwhile holds no more
                    for memory in (self._held, self._shown, self._columns):
                        memory.clear()
                raise
            self._depth -= 1
            if self._depth == 0:
                self._db.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _nobody(_kind: str, _key: str) -> None:
    """Does not want to know."""


def _dump(body: Json) -> str:
    return json.dumps(body, separators=(",", ":"))


def _text(body: Json, field: str) -> str:
    """One text in a document, such as `body.status`; empty where there is none."""
    found: Any = body
    for name in field.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def _packed(text: str) -> bytes:
    return marshal.dumps(json.loads(text))


def _load(held: bytes) -> Json:
    body: Json = marshal.loads(held)  # noqa: S302 (made here, a moment ago)
    return body
