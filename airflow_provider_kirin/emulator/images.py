"""Submitted images: check them against the model's page, and store them on disk."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path

from PIL import Image

from airflow_provider_kirin.emulator.errors import ParameterError
from airflow_provider_kirin.emulator.generation import new_id

#: The page says "under 10 MB"; the smaller meaning of MB is the safe one ([V] models.json).
MAX_BYTES = 10_000_000
MIN_SIDE = 300
MAX_RATIO = 2.5
_MAX_PIXELS = 50_000_000


def check_image(data: bytes, name: str, *, any_ratio: bool, any_size: bool = False) -> None:
    """Raise :class:`ParameterError` unless this is a complete JPEG or PNG within the page's limits ([V] models.json).

    Slow, because it decodes the image to detect a truncated file: call it in a worker thread.
    """
    if len(data) >= MAX_BYTES:
        raise ParameterError(name, f"the image has {len(data)} bytes, it must be under 10 MB", "format")
    width, height = _decoded_size(data, name)
    if not any_size and (width < MIN_SIDE or height < MIN_SIDE):
        raise ParameterError(name, f"the image is {width}x{height}, each side needs at least {MIN_SIDE} px", "format")
    if not any_ratio and max(width, height) > MAX_RATIO * min(width, height):
        raise ParameterError(name, f"the image is {width}x{height}, the ratio must be within 1:2.5 and 2.5:1", "ratio")


def _decoded_size(data: bytes, name: str) -> tuple[int, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # MPO: a JPEG followed by a second image, as many phones write it.
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "MPO")) as image:
                size = image.size
                if size[0] * size[1] > _MAX_PIXELS:
                    raise ParameterError(name, f"the image has more than {_MAX_PIXELS} pixels", "format")
                # A JPEG decodes several times faster at an eighth of its size; a truncated file still fails.
                image.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
                image.load()
                return size
    except ParameterError:
        raise
    except Exception as error:  # Pillow raises many types for broken files; each of them means "not an image".
        raise ParameterError(name, "not a JPEG or PNG image", "format") from error


class ImageStore:
    """A directory of images by digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, data: bytes) -> str:
        """Write an image unless it exists, and return its digest. Up to 10 MB: call it in a worker thread."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        if not path.exists():
            # Written to a draft and renamed, so that a killed process leaves no partial image under a digest.
            draft = path.with_name(f"{digest}.{new_id()}.part")
            draft.write_bytes(data)
            draft.replace(path)
        return digest

    def path(self, digest: str) -> Path:
        """Return the path of the image with this digest."""
        return self._folder / digest
