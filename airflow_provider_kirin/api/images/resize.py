"""Turns an image that breaks a limit into the nearest one that breaks none: scaled, padded, re-encoded, never cropped.

The limits are those of the model's JSON Schema (``x-image``). Whatever comes out is judged again by
:mod:`airflow_provider_kirin.api.images.validation`, as any other image.
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
    check_whole,
    without_notes,
)
from airflow_provider_kirin.api.images.rules import ImageRules
from airflow_provider_kirin.api.images.validation import recognise
from airflow_provider_kirin.exceptions import Problem

if TYPE_CHECKING:
    from PIL import Image

#: Bytes of an original. Larger ones are not read to their end.
MAX_ORIGINAL: Final = 100_000_000
#: Pixels of an original: where Pillow begins to warn of decompression bombs. Decoded they take up to 360 MB.
MAX_PIXELS: Final = 89_478_485
#: As :func:`recognise` calls them, and Pillow.
_READABLE: Final = {"JPEG": "JPEG", "PNG": "PNG", "WebP": "WEBP", "TIFF": "TIFF", "BMP": "BMP", "GIF": "GIF"}
#: What Pillow converts to RGB faithfully, besides 16-bit grey. Not: Lab, floating point.
_MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_LOSSLESS: Final = frozenset({"PNG", "TIFF", "BMP", "GIF"})
_QUALITIES: Final = (95, 90, 85, 80, 70)
#: What a file is scaled by that is too large in bytes at every quality.
_SHRINK: Final = 0.8
_ORIENTATION: Final = 0x0112

Size = tuple[int, int]


@dataclass(frozen=True)
class Fitted:
    """An image that was made to fit.

    :param data: the file
    :param done: what was done to it, and from what to what, for the log
    """

    data: bytes
    done: str


def fit(data: bytes, *, name: str, field: str, rules: ImageRules) -> Fitted | list[Problem]:
    """Make an image fit, or say why that cannot be done.

    The same file and Pillow give the same result on every try.

    :param data: the whole original
    :param name: what to call the image in messages
    :param field: the payload's field
    :param rules: what the model takes
    """
    found = recognise(data)
    if found not in _READABLE:
        # What check() says of such a file is all there is to say.
        return []
    if len(data) >= MAX_ORIGINAL:
        rule = f"an image that is made to fit must have less than {MAX_ORIGINAL:,} bytes"
        return [Problem(field, f"{name} ({found})", rule, "Scale it down or save it as JPEG.")]
    try:
        return _fit(data, found, rules)
    except InvalidImage as unfit:
        return [Problem(field, f"{name} ({found}, {len(data):,} bytes)", unfit.rule, unfit.remedy)]


def plan(width: int, height: int, rules: ImageRules, *, scale: float = 1.0) -> tuple[Size, Size]:
    """Return the size that an image is scaled to, and that of the canvas which it is then centred on.

    :param width: in pixels, upright
    :param height: in pixels
    :param rules: what the model takes
    :param scale: a scale that is wanted anyway, for a smaller file
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
    """Return the smallest size that holds a picture and has an allowed ratio."""
    from fractions import Fraction
    from math import ceil

    least = 1 if rules.max_ratio is None else ceil(Fraction(max(width, height)) / Fraction(str(rules.max_ratio)))
    return max(ceil(width), least), max(ceil(height), least)


def _fit(data: bytes, found: str, rules: ImageRules) -> Fitted:
    image, steps = _read(data, found)
    scale = 1.0
    while True:
        size, canvas = plan(*image.size, rules, scale=scale)
        made = _pad(_scale(image, size), canvas)
        for encoded, how in _encodings(made, found, rules, same_size=canvas == image.size):
            if len(encoded) < rules.max_bytes:
                steps += [f"scaled to {size[0]} x {size[1]} px"] if size != image.size else []
                steps += [f"padded to {canvas[0]} x {canvas[1]} px"] if size != canvas else []
                return Fitted(encoded, f"{found}, {_shown(image)}, {len(data):,} bytes: {', '.join([*steps, how])}")
        if scale * min(image.size) < 1:
            raise InvalidImage(f"the file must be smaller than {rules.max_bytes:,} bytes", "Give a simpler image.")
        scale *= _SHRINK


def _shown(image: Image.Image) -> str:
    return f"{image.width} x {image.height} px"


def _read(data: bytes, found: str) -> tuple[Image.Image, list[str]]:
    """Return the pixels, upright, as RGB or RGBA, and what was done for it.

    :raises InvalidImage: the file is damaged, or Pillow cannot read it
    """
    from PIL import ImageFile

    cut = None
    if found in ("JPEG", "PNG"):
        try:
            check_whole(data, found)
        except IncompleteFile as incomplete:
            # Some cameras leave the end of a JPEG away. Pillow sees whether pixels are missing, if it is let.
            if found == "PNG" or ImageFile.LOAD_TRUNCATED_IMAGES:
                raise
            cut = incomplete
    try:
        return _decode(data, found)
    except CorruptImage as damaged:
        if found == "PNG":
            # Its pixels are whole: it is a note that Pillow stumbles over.
            return _decode(without_notes(data), found)
        raise cut or damaged from None


def _decode(data: bytes, found: str) -> tuple[Image.Image, list[str]]:
    from PIL import Image

    steps = []
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd notes in a file, which do no harm, and of bombs, which are refused.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(BytesIO(data), formats=[_READABLE[found]])
            if found != "JPEG" and getattr(opened, "is_animated", False):
                steps.append("first frame taken")
            orientation = _orientation(opened)
            # Pillow turns a TIFF upright when it loads it, and says so in its EXIF.
            opened.load()
            image = _upright(_as_colours(opened), _orientation(opened))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        rule = f"an image that is made to fit may have at most {MAX_PIXELS:,} pixels (a guard of the worker's memory)"
        raise InvalidImage(rule, "Scale the image down.") from None
    except InvalidImage:
        raise
    except Exception:  # Pillow promises no list of what it raises for a file made in bad faith
        raise CorruptImage("the pixels of this one cannot be decoded") from None
    return image, [*steps, "turned upright"] if orientation not in (0, 1) else steps


def _orientation(opened: Image.Image) -> Any:
    try:
        return opened.getexif().get(_ORIENTATION, 1)
    except Exception:  # notes that cannot be read are no harm
        return 1


def _as_colours(opened: Image.Image) -> Image.Image:
    """Return the picture in 8 bits a sample, RGB or RGBA, with the profile that says what its colours mean."""
    profile = opened.info.get("icc_profile") if opened.mode in ("RGB", "RGBA", "P") else None
    if opened.mode.startswith("I"):
        # 16 bits a sample.
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
    """Centre a picture on a canvas; each bar takes the mean colour of the edge that it continues."""
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


def _encodings(image: Image.Image, found: str, rules: ImageRules, *, same_size: bool) -> Iterator[tuple[bytes, str]]:
    """Yield files of a picture, the most faithful first."""
    has_alpha = image.mode == "RGBA"
    # A PNG that is too large does not shrink by being written again.
    is_hopeless = found == "PNG" and same_size
    wants_png = found in _LOSSLESS or has_alpha or "JPEG" not in rules.formats
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
