"""The generations, in SQLite.

Every call is one indexed statement of about ten microseconds, so handlers make it on the event loop: handing it to a
thread would cost more. WAL with synchronous=NORMAL survives a kill of this process at any point.
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
    failure TEXT, no_video INTEGER NOT NULL, odd_status TEXT, odd_duration TEXT,
    callback_urls TEXT NOT NULL, origin TEXT NOT NULL, waiting INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_external ON generations (owner, external_id);
CREATE INDEX IF NOT EXISTS by_job ON generations (owner, job_id);
CREATE INDEX IF NOT EXISTS by_done ON generations (owner, done_ms);
CREATE INDEX IF NOT EXISTS by_waiting ON generations (waiting) WHERE waiting;
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY, generation TEXT NOT NULL, url TEXT NOT NULL, status TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, due_ms INTEGER, outcome TEXT);
CREATE INDEX IF NOT EXISTS by_due ON deliveries (due_ms) WHERE due_ms IS NOT NULL;
"""
#: The version of the tables. State of another version is dropped.
_VERSION = 3
_COLUMNS = tuple(field.name for field in fields(Generation))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM generations "
_INSERT = f"INSERT INTO generations ({', '.join(_COLUMNS)}, waiting) VALUES ({', '.join(['?'] * len(_COLUMNS))}, ?)"


class Store:
    """The generations of all keys, and the callbacks that are due."""

    def __init__(self, path: Path) -> None:
        # Autocommit: each statement is its own transaction.
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
        """Close the database."""
        self.db.close()

    def add(self, generation: Generation) -> None:
        """Store a new generation."""
        row = _to_row(generation)
        self.db.execute(_INSERT, [*(row[name] for name in _COLUMNS), generation.waits_for_images])

    def replace(self, generation: Generation) -> None:
        """Update a generation after its images were fetched."""
        row = _to_row(generation)
        changed = [row["images"], row["failure"], row["done_ms"], generation.waits_for_images]
        self.db.execute(
            "UPDATE generations SET images = ?, failure = ?, done_ms = ?, waiting = ? WHERE id = ?",
            [*changed, generation.id],
        )

    def by_id(self, id_: str) -> Generation | None:
        """Return the generation with this id, of any key."""
        return self._one("WHERE id = ?", id_)

    def by_external_id(self, owner: str, external_id: str) -> Generation | None:
        """Return a key's newest generation with this external id."""
        return self._one("WHERE owner = ? AND external_id = ? ORDER BY seq DESC LIMIT 1", owner, external_id)

    def by_job_id(self, owner: str, job_id: str) -> Generation | None:
        """Return a key's generation whose video has this job id."""
        return self._one("WHERE owner = ? AND job_id = ?", owner, job_id)

    def all(self) -> Iterator[Generation]:
        """Return all generations, oldest first."""
        return map(_from_row, self.db.execute(_SELECT + "ORDER BY seq"))

    def waiting(self) -> list[Generation]:
        """Return the generations whose images are still to be fetched."""
        return [_from_row(row) for row in self.db.execute(_SELECT + "WHERE waiting ORDER BY seq")]

    def running(self, owner: str, now: int) -> int:
        """Return how many generations of a key are running."""
        sql = "SELECT count(*) FROM generations WHERE owner = ? AND (done_ms > ? OR waiting)"
        return int(self.db.execute(sql, (owner, now)).fetchone()[0])

    def spent_cents(self, owner: str, now: int) -> int:
        """Return what a key's generations have cost, running ones included and failed ones refunded."""
        sql = (
            "SELECT coalesce(sum(cents), 0) FROM generations"
            " WHERE owner = ? AND NOT (failure IS NOT NULL AND done_ms <= ? AND NOT waiting)"
        )
        return int(self.db.execute(sql, (owner, now)).fetchone()[0])

    def finish(self, now: int) -> int:
        """End all running generations; return how many. Those whose images are still to be fetched run on."""
        running = "SELECT id FROM generations WHERE done_ms > ? AND NOT waiting"
        self.db.execute(
            f"UPDATE deliveries SET due_ms = ? WHERE status = 'final' AND due_ms > ? AND generation IN ({running})",
            (now, now, now),
        )
        return self.db.execute(
            "UPDATE generations SET done_ms = ? WHERE done_ms > ? AND NOT waiting", (now, now)
        ).rowcount

    def clear(self) -> None:
        """Delete all generations and deliveries; the signing secret stays."""
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
