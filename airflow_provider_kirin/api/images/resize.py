"""Make an image fit that breaks a limit, with as little change as possible: scaled, padded, re-encoded, never cropped.

The limits are those of the model's JSON Schema (``x-image``). The result is validated by
:mod:`airflow_provider_kirin.api.images.validation` like any other image.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kirin.api.images.integrity import (
    CorruptImage,
    IncompleteFile,
    InvalidImage,
    check_integrity,
    strip_metadata,
)
from airflow_provider_kirin.api.images.rules import ImageRules
from airflow_provider_kirin.api.images.validation import detect_format
from airflow_provider_kirin.exceptions import Problem

if TYPE_CHECKING:
    from PIL import Image

#: Maximum size of an original in bytes. Larger ones are not read completely.
MAX_ORIGINAL: Final = 100_000_000
#: Maximum pixels of an original: above it, Pillow warns of decompression bombs. Decoded they take up to 360 MB.
MAX_PIXELS: Final = 89_478_485
#: Readable formats: the name that :func:`detect_format` returns, and Pillow's.
_READABLE: Final = {"JPEG": "JPEG", "PNG": "PNG", "WebP": "WEBP", "TIFF": "TIFF", "BMP": "BMP", "GIF": "GIF"}
#: Modes that Pillow converts to RGB faithfully, besides 16-bit grey. Not among them: Lab, floating point.
_MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_LOSSLESS: Final = frozenset({"PNG", "TIFF", "BMP", "GIF"})
_QUALITIES: Final = (95, 90, 85, 80, 70)
#: The scale factor for an image whose file is too large at every quality.
_SHRINK: Final = 0.8
_ORIENTATION: Final = 0x0112

Size = tuple[int, int]


@dataclass(frozen=True)
class Fitted:
    """An image that was made to fit.

    :param data: the file
    :param done: the original and the changes made to it, for the log
    """

    data: bytes
    done: str


def fit(data: bytes, *, name: str, field: str, rules: ImageRules) -> Fitted | list[Problem]:
    """Make an image fit, or return the problems that prevent it.

    The result is the same on every try with the same Pillow version.

    :param data: the whole original
    :param name: the image's name in messages
    :param field: the payload's field
    :param rules: what the model accepts
    """
    file_format = detect_format(data)
    if file_format not in _READABLE:
        # check() has already reported the problems of such a file.
        return []
    if len(data) >= MAX_ORIGINAL:
        rule = f"an image that is made to fit must have less than {MAX_ORIGINAL:,} bytes"
        return [Problem(field, f"{name} ({file_format})", rule, "Scale it down or save it as JPEG.")]
    try:
        return _fit(data, file_format, rules)
    except InvalidImage as error:
        return [Problem(field, f"{name} ({file_format}, {len(data):,} bytes)", error.rule, error.remedy)]


def plan(width: int, height: int, rules: ImageRules, *, scale: float = 1.0) -> tuple[Size, Size]:
    """Return the size to scale an image to, and the size of the canvas to centre it on.

    :param width: in pixels, upright
    :param height: in pixels
    :param rules: what the model accepts
    :param scale: a factor to apply in any case, for a smaller file
    """
    wide, high = _canvas(width * scale, height * scale, rules)
    if min(wide, high) < rules.min_side:
        scale *= rules.min_side / min(wide, high)
    while True:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        wide, high = (max(side, rules.min_side) for side in _canvas(*size, rules))
        if wide * high <= rules.max_pixels:
            return size, (wide, high)
        scale *= min(0.999, (rules.max_pixels / (wide * high)) ** 0.5)


def _canvas(width: float, height: float, rules: ImageRules) -> Size:
    """Return the smallest size with an allowed aspect ratio that an image fits into."""
    from fractions import Fraction
    from math import ceil

    least = 1 if rules.max_ratio is None else ceil(Fraction(max(width, height)) / Fraction(str(rules.max_ratio)))
    return max(ceil(width), least), max(ceil(height), least)


def _fit(data: bytes, file_format: str, rules: ImageRules) -> Fitted:
    image, steps = _read(data, file_format)
    scale = 1.0
    while True:
        size, canvas = plan(*image.size, rules, scale=scale)
        made = _pad(_scale(image, size), canvas)
        for encoded, how in _encodings(made, file_format, rules, same_size=canvas == image.size):
            if len(encoded) < rules.max_bytes:
                steps += [f"scaled to {size[0]} x {size[1]} px"] if size != image.size else []
                steps += [f"padded to {canvas[0]} x {canvas[1]} px"] if size != canvas else []
                return Fitted(
                    encoded, f"{file_format}, {_shown(image)}, {len(data):,} bytes: {', '.join([*steps, how])}"
                )
        if scale * min(image.size) < 1:
            raise InvalidImage(f"the file must be smaller than {rules.max_bytes:,} bytes", "Use a simpler image.")
        scale *= _SHRINK


def _shown(image: Image.Image) -> str:
    return f"{image.width} x {image.height} px"


def _read(data: bytes, file_format: str) -> tuple[Image.Image, list[str]]:
    """Return the pixels, upright, as RGB or RGBA, and the steps that were taken.

    :raises InvalidImage: the file is damaged, or Pillow cannot read it
    """
    from PIL import ImageFile

    cut = None
    if file_format in ("JPEG", "PNG"):
        try:
            check_integrity(data, file_format)
        except IncompleteFile as incomplete:
            # Some cameras omit the end marker of a JPEG. Pillow then detects whether pixels are missing.
            if file_format == "PNG" or ImageFile.LOAD_TRUNCATED_IMAGES:
                raise
            cut = incomplete
    try:
        return _decode(data, file_format)
    except CorruptImage as damaged:
        if file_format == "PNG":
            # Its pixels are intact: Pillow fails on the metadata.
            return _decode(strip_metadata(data), file_format)
        raise cut or damaged from None


def _decode(data: bytes, file_format: str) -> tuple[Image.Image, list[str]]:
    from PIL import Image

    steps = []
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, which is harmless, and of decompression bombs, which are rejected.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(BytesIO(data), formats=[_READABLE[file_format]])
            if file_format != "JPEG" and getattr(opened, "is_animated", False):
                steps.append("first frame taken")
            orientation = _orientation(opened)
            # Pillow turns a TIFF upright when loading it, and updates its EXIF.
            opened.load()
            image = _upright(_as_colours(opened), _orientation(opened))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        rule = f"an image that is made to fit may have at most {MAX_PIXELS:,} pixels (a guard of the worker's memory)"
        raise InvalidImage(rule, "Scale the image down.") from None
    except InvalidImage:
        raise
    except Exception:  # Pillow does not document what it raises for a malicious file
        raise CorruptImage("the pixels of this one cannot be decoded") from None
    return image, [*steps, "turned upright"] if orientation not in (0, 1) else steps


def _orientation(opened: Image.Image) -> Any:
    try:
        return opened.getexif().get(_ORIENTATION, 1)
    except Exception:  # unreadable metadata is harmless
        return 1


def _as_colours(opened: Image.Image) -> Image.Image:
    """Return the image with 8 bits per sample, as RGB or RGBA, with its colour profile."""
    profile = opened.info.get("icc_profile") if opened.mode in ("RGB", "RGBA", "P") else None
    if opened.mode.startswith("I"):
        # 16 bits per sample.
        image = opened.convert("I").point(lambda sample: sample * (1 / 257)).convert("L").convert("RGB")
    elif opened.mode not in _MODES:
        rule = f"the colours of an image that is made to fit must be RGB, CMYK or grey; these are {opened.mode}"
        raise InvalidImage(rule, "Export it as PNG.")
    else:
        wanted = "RGBA" if opened.has_transparency_data else "RGB"
        image = opened if opened.mode == wanted else opened.convert(wanted)
    image.info = {"icc_profile": profile} if profile else {}
    return image


def _upright(image: Image.Image, orientation: Any) -> Image.Image:
    from PIL.Image import Transpose

    turn = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)


def _scale(image: Image.Image, size: Size) -> Image.Image:
    from PIL.Image import Resampling

    return image if size == image.size else image.resize(size, Resampling.LANCZOS)


def _pad(image: Image.Image, canvas: Size) -> Image.Image:
    """Centre an image on a canvas; each bar has the mean colour of the adjacent edge."""
    if canvas == image.size:
        return image
    from PIL import Image as Images

    (wide, high), (width, height) = canvas, image.size
    left, top = (wide - width) // 2, (high - height) // 2
    padded = Images.new(image.mode, canvas)
    padded.info = image.info
    for edge, bar in (
        ((0, 0, 1, height), (0, 0, left, high)),
        ((width - 1, 0, width, height), (left + width, 0, wide, high)),
        ((0, 0, width, 1), (left, 0, left + width, top)),
        ((0, height - 1, width, height), (left, top + height, left + width, high)),
    ):
        colour = image.crop(edge).resize((1, 1), Images.Resampling.BOX).getpixel((0, 0))
        padded.paste(colour, bar)  # type: ignore[arg-type]
    padded.paste(image, (left, top))
    return padded


def _encodings(
    image: Image.Image, file_format: str, rules: ImageRules, *, same_size: bool
) -> Iterator[tuple[bytes, str]]:
    """Yield encoded files of an image, the most faithful first."""
    has_alpha = image.mode == "RGBA"
    # A PNG that is too large does not become smaller by saving it again.
    is_hopeless = file_format == "PNG" and same_size
    wants_png = file_format in _LOSSLESS or has_alpha or "JPEG" not in rules.formats
    if "PNG" in rules.formats and wants_png and not is_hopeless:
        yield _encoded(image, "PNG", optimize=False), "saved as PNG"
    if "JPEG" in rules.formats:
        opaque = _flattened(image) if has_alpha else image
        for quality in _QUALITIES:
            how = f"saved as JPEG of quality {quality}"
            yield (
                _encoded(opaque, "JPEG", quality=quality),
                how + (", transparency filled with white" if has_alpha else ""),
            )


def _flattened(image: Image.Image) -> Image.Image:
    from PIL import Image as Images

    white = Images.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    flat = white.convert("RGB")
    flat.info = image.info
    return flat


def _encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, file_format, icc_profile=image.info.get("icc_profile"), **options)
    return out.getvalue()
