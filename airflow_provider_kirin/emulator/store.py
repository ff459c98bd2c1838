"""The generations, in SQLite.

Every call is one indexed statement of some ten microseconds, so handlers make them inline in the event loop: a hop to
a thread would cost more. WAL with synchronous=NORMAL survives the death of this process at any point.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from airflow_provider_kirin.emulator.directives import Failure
from airflow_provider_kirin.emulator.generation import Frame, Generation

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS generations (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, external_id TEXT, model TEXT NOT NULL,
    job_id TEXT NOT NULL, images TEXT NOT NULL, card TEXT NOT NULL, aspect_ratio TEXT, short_side INTEGER NOT NULL,
    fps INTEGER NOT NULL, video_seconds INTEGER NOT NULL, has_sound INTEGER NOT NULL, watermark INTEGER NOT NULL,
    created_ms INTEGER NOT NULL, done_ms INTEGER NOT NULL, visible_ms INTEGER NOT NULL, cents INTEGER NOT NULL,
    failure TEXT, no_video INTEGER NOT NULL, odd_status TEXT, callback_urls TEXT NOT NULL, origin TEXT NOT NULL,
    waiting INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_external ON generations (owner, external_id);
CREATE INDEX IF NOT EXISTS by_job ON generations (owner, job_id);
CREATE INDEX IF NOT EXISTS by_done ON generations (owner, done_ms);
CREATE INDEX IF NOT EXISTS by_waiting ON generations (waiting) WHERE waiting;
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY, generation TEXT NOT NULL, url TEXT NOT NULL, status TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, due_ms INTEGER, outcome TEXT);
CREATE INDEX IF NOT EXISTS by_due ON deliveries (due_ms) WHERE due_ms IS NOT NULL;
"""
_VERSION = 2
"""Of the tables: a folder that an older emulator left behind starts empty."""
_COLUMNS = tuple(field.name for field in fields(Generation))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM generations "
_INSERT = f"INSERT INTO generations ({', '.join(_COLUMNS)}, waiting) VALUES ({', '.join(['?'] * len(_COLUMNS))}, ?)"


class Store:
    """All generations of all keys, found by id, external id or clock."""

    def __init__(self, path: Path) -> None:
        # Autocommit: each statement is its own transaction, nothing is ever half written.
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=NORMAL")
        if self.db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            self.db.executescript("DROP TABLE IF EXISTS generations; DROP TABLE IF EXISTS deliveries;")
        self.db.executescript(_SCHEMA)
        self.db.execute(f"PRAGMA user_version = {_VERSION}")
        self.db.execute("INSERT OR IGNORE INTO meta VALUES ('secret', ?)", (secrets.token_hex(32),))
        self.secret: bytes = self.db.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()[0].encode()

    def close(self) -> None:
        """Write the log back and close."""
        self.db.close()

    def add(self, generation: Generation) -> None:
        """Keep a generation that was just accepted."""
        row = _to_row(generation)
        self.db.execute(_INSERT, [*(row[name] for name in _COLUMNS), generation.waits_for_images])

    def replace(self, generation: Generation) -> None:
        """Keep what became of a generation's images."""
        row = _to_row(generation)
        changed = [row["images"], row["failure"], row["done_ms"], generation.waits_for_images]
        self.db.execute(
            "UPDATE generations SET images = ?, failure = ?, done_ms = ?, waiting = ? WHERE id = ?",
            [*changed, generation.id],
        )

    def by_id(self, id_: str) -> Generation | None:
        """The generation with this id, whoever made it."""
        return self._one("WHERE id = ?", id_)

    def by_external_id(self, owner: str, external_id: str) -> Generation | None:
        """The newest generation of a key with this external id."""
        return self._one("WHERE owner = ? AND external_id = ? ORDER BY seq DESC LIMIT 1", owner, external_id)

    def by_job_id(self, owner: str, job_id: str) -> Generation | None:
        """The generation of a key that made the clip with this id."""
        return self._one("WHERE owner = ? AND job_id = ?", owner, job_id)

    def all(self) -> Iterator[Generation]:
        """Every generation, oldest first."""
        return map(_from_row, self.db.execute(_SELECT + "ORDER BY seq"))

    def waiting(self) -> list[Generation]:
        """Generations whose images are still to be fetched."""
        return [_from_row(row) for row in self.db.execute(_SELECT + "WHERE waiting ORDER BY seq")]

    def running(self, owner: str, now: int) -> int:
        """How many generations of a key are under way."""
        sql = "SELECT count(*) FROM generations WHERE owner = ? AND (done_ms > ? OR waiting)"
        return int(self.db.execute(sql, (owner, now)).fetchone()[0])

    def spent_cents(self, owner: str, now: int) -> int:
        """What a key's generations have cost and hold reserved; failed ones give it back."""
        sql = (
            "SELECT coalesce(sum(cents), 0) FROM generations"
            " WHERE owner = ? AND NOT (failure IS NOT NULL AND done_ms <= ? AND NOT waiting)"
        )
        return int(self.db.execute(sql, (owner, now)).fetchone()[0])

    def clear(self) -> None:
        """Forget all generations and deliveries; the signing secret stays."""
        self.db.execute("DELETE FROM generations")
        self.db.execute("DELETE FROM deliveries")

    def _one(self, where: str, *values: str) -> Generation | None:
        row = self.db.execute(_SELECT + where, values).fetchone()
        return _from_row(row) if row else None


def _to_row(generation: Generation) -> dict[str, Any]:
    row = {name: getattr(generation, name) for name in _COLUMNS}
    row["images"] = json.dumps([asdict(frame) for frame in generation.images])
    row["failure"] = json.dumps(asdict(generation.failure)) if generation.failure else None
    row["callback_urls"] = json.dumps(generation.callback_urls)
    return row


def _from_row(row: tuple[Any, ...]) -> Generation:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["images"] = tuple(Frame(**each) for each in json.loads(values["images"])) if values["images"] != "[]" else ()
    values["failure"] = Failure(**json.loads(values["failure"])) if values["failure"] else None
    values["callback_urls"] = tuple(json.loads(values["callback_urls"])) if values["callback_urls"] != "[]" else ()
    values |= {name: bool(values[name]) for name in ("has_sound", "watermark", "no_video")}
    return Generation(**values)
