"""What came in: counters and the last requests. Never a key, a query string or a body."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

LENGTH = 1000


@dataclass
class Journal:
    """Counts since the start or the last reset; in memory, so a restart begins at nothing."""

    submits: int = 0
    gets: int = 0
    downloads: int = 0
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LENGTH))

    def count(self, method: str, path: str) -> None:
        """Count a request that has arrived, whatever becomes of it."""
        if path == "/model/v1/generation" and method == "POST":
            self.submits += 1
        elif path.startswith("/model/v1/generation/task/"):
            self.gets += 1
        elif path.startswith("/cdn/") and method == "GET":
            self.downloads += 1

    def clear(self) -> None:
        """Start again at nothing."""
        self.submits = self.gets = self.downloads = 0
        self.requests.clear()
