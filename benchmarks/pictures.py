"""Pictures of about nine megabytes, just below the model's limit, like those of a camera and of a renderer."""

from __future__ import annotations

import functools
from pathlib import Path

_SIZES = {"JPEG": ((5000, 3750), 6.0), "PNG": ((2960, 2220), 2.0)}


@functools.cache
def draw(folder: Path, kind: str, *, scale: float = 1.0) -> Path:
    """Draw a picture with soft shapes and the noise of a sensor, and return its file.

    :param folder: where to put it
    :param kind: ``JPEG`` or ``PNG``
    :param scale: of the sides; below 1 for a smaller file
    """
    import numpy
    from PIL import Image

    (width, height), noise = _SIZES[kind]
    width, height = int(width * scale), int(height * scale)
    x, y = numpy.meshgrid(numpy.linspace(0, 9, width), numpy.linspace(0, 7, height))
    shapes = 120 + 60 * numpy.sin(x) * numpy.cos(y) + 30 * numpy.sin(5 * x + y)
    pixels = shapes[:, :, None] * (1.0, 0.9, 0.8) + numpy.random.default_rng(1).normal(0, noise, (height, width, 3))
    file = folder / f"picture.{kind.lower()}"
    options = {"quality": 97} if kind == "JPEG" else {}
    Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(file, kind, **options)
    return file
