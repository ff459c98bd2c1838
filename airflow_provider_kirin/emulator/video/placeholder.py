"""Something to see where a generation has no image: the prompt, on a ground whose colours follow from it."""

from __future__ import annotations

import colorsys
import hashlib
import textwrap

from PIL import Image, ImageDraw, ImageFont

_LONGEST = 280


def draw_placeholder(text: str, size: tuple[int, int]) -> Image.Image:
    """A picture of this size: two colours that run into each other, a few discs, and the text."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    top, bottom = _colour(digest[0], 0.42), _colour(digest[1], 0.16)
    blend = Image.linear_gradient("L").resize(size)
    card = Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), blend)
    draw = ImageDraw.Draw(card)
    for index in range(3, 24, 3):
        x, y = digest[index] * size[0] // 255, digest[index + 1] * size[1] // 255
        radius = min(size) * (8 + digest[index + 2] % 24) // 200
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_colour(digest[index], 0.5))
    font = ImageFont.load_default(min(size) / 16)
    shown = textwrap.fill(textwrap.shorten(text, _LONGEST, placeholder=" ..."), max(12, size[0] * 26 // min(size)))
    middle = size[0] / 2, size[1] / 2
    draw.multiline_text(middle, shown, "white", font, anchor="mm", align="center", stroke_width=2, stroke_fill="black")
    return card


def _colour(hue: int, lightness: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(hue / 256, lightness, 0.55)
    return round(red * 255), round(green * 255), round(blue * 255)
