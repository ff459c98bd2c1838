"""The image rules of a model, from its JSON Schema. Imported with every DAG file, so it imports nothing heavy."""

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
    """The images that a model accepts.

    :param max_bytes: the file must be smaller than this. "Under 10 MB" means 10,000,000 here: the stricter reading, so
        that a smaller file is accepted whether the API means MB or MiB.
    :param min_side: minimum width and height, in pixels
    :param formats: ``JPEG``, ``PNG`` or both
    :param max_ratio: maximum ratio of the longer to the shorter side; None if there is no such rule
    :param max_pixels: protects the worker's memory; not a rule of the API
    """

    max_bytes: int
    min_side: int
    formats: tuple[str, ...] = KNOWN_FORMATS
    max_ratio: float | None = None
    max_pixels: int = 50_000_000

    @classmethod
    def from_schema(cls, schema: Mapping[str, Any]) -> ImageRules:
        """Parse the ``x-image`` rules of a field's JSON Schema.

        :param schema: such as ``{"formats": ["JPEG", "PNG"], "maxBytes": 10000000, "minSide": 300, "maxRatio": 2.5,
            "maxPixels": 50000000}``; all but ``maxBytes`` and ``minSide`` may be absent
        """
        rules = {_SCHEMA_NAMES[name]: value for name, value in schema.items()}
        rules["formats"] = tuple(rules.get("formats", KNOWN_FORMATS))
        return cls(**rules)
