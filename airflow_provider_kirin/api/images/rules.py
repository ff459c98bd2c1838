"""What a model takes as an image, from its JSON Schema. Loaded with each DAG file, so it loads nothing in its turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_SCHEMA_NAMES: Final = {
    "formats": "formats",
    "maxBytes": "max_bytes",
    "minSide": "min_side",
    "maxRatio": "max_ratio",
    "maxPixels": "max_pixels",
}
KNOWN_FORMATS: Final = ("JPEG", "PNG")


@dataclass(frozen=True)
class ImageRules:
    """What a model takes as an image.

    :param max_bytes: the file must be smaller than this. "Under 10 MB" is written as 10,000,000: read as 10 MiB, the
        same words would allow more, so that whatever is smaller than this is surely taken.
    :param min_side: the least width and the least height, in pixels
    :param formats: ``JPEG``, ``PNG`` or both
    :param max_ratio: the longer side may be at most this many times the shorter; None if there is no such rule
    :param max_pixels: our own guard of the worker's memory, no rule of the API
    """

    max_bytes: int
    min_side: int
    formats: tuple[str, ...] = KNOWN_FORMATS
    max_ratio: float | None = None
    max_pixels: int = 50_000_000

    @classmethod
    def from_schema(cls, schema: Mapping[str, Any]) -> ImageRules:
        """Read the rules of a field, which its JSON Schema has under ``x-image``.

        :param schema: such as ``{"formats": ["JPEG", "PNG"], "maxBytes": 10000000, "minSide": 300, "maxRatio": 2.5,
            "maxPixels": 50000000}``; all but ``maxBytes`` and ``minSide`` may be absent
        """
        rules = {_SCHEMA_NAMES[name]: value for name, value in schema.items()}
        rules["formats"] = tuple(rules.get("formats", KNOWN_FORMATS))
        return cls(**rules)
