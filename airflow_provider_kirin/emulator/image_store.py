"""Submitted images on disk, each once, named by what is in it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from airflow_provider_kirin.emulator.ids import new_id


class ImageStore:
    """A folder of images by digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, data: bytes) -> str:
        """Write an image unless it is there, and return its digest. Up to 10 MB: call it in a worker thread."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        if not path.exists():
            # Written aside and moved, so that a killed process leaves no half image under a digest.
            draft = path.with_name(f"{digest}.{new_id()}.part")
            draft.write_bytes(data)
            draft.replace(path)
        return digest

    def path(self, digest: str) -> Path:
        """Where the image with this digest is."""
        return self._folder / digest
