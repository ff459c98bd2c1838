"""Render a real MP4 from images: H.264, a slow push-in with some drift, cross-fades between images, and sound.

Runs as a separate process (``python -m airflow_provider_kirin.emulator.video_renderer``), so that the server's
event loop never waits for a frame. Planes are scaled as YUV 4:2:0, not RGB: half the work, and no frame is converted.
"""

from __future__ import annotations

import array
import colorsys
import hashlib
import json
import math
import os
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

_ZOOM = 0.12
_SQUARE_UP_TO = 1.2
_MAX_CROP = 0.3
# RGB to limited-range BT.709 YCbCr, what players assume for HD: three rows of four for Image.convert.
_BT709 = (0.1826, 0.6142, 0.0620, 16, -0.1006, -0.3386, 0.4392, 128, 0.4392, -0.3989, -0.0403, 128)
_SAMPLE_RATE = 44_100
_CHORD = (220.0, 277.18, 329.63)
_SAMPLES_PER_FRAME = 1024
_MAX_CARD_TEXT = 280
Planes = tuple[Image.Image, Image.Image, Image.Image]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to render: the images, or a placeholder with the text ``card`` if there are none."""

    images: list[str]
    card: str
    aspect_ratio: str | None
    short_side: int
    fps: int
    seconds: int
    has_sound: bool
    watermark: bool
    out: str


def frame_size(job: Job, first: Image.Image | None) -> tuple[int, int]:
    """Return the requested size, else the first image's orientation ([E]: pages state only 720p and 1080p)."""
    short, long = job.short_side, job.short_side * 16 // 9
    if job.aspect_ratio or first is None:
        shape = job.aspect_ratio or "16:9"
        return {"16:9": (long, short), "9:16": (short, long), "1:1": (short, short)}[shape]
    width, height = first.size
    if max(width, height) < _SQUARE_UP_TO * min(width, height):
        return short, short
    return (long, short) if width > height else (short, long)


def render(job: Job, out: Path) -> None:
    """Write the video."""
    pictures = [_load(Path(path)) for path in job.images]
    size = frame_size(job, pictures[0] if pictures else None)
    scenes = [_planes(_canvas(picture, size)) for picture in pictures or [_draw_placeholder(job.card, size)]]
    mark = _watermark_planes(size) if job.watermark else None
    frames = job.seconds * job.fps
    with av.open(str(out), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = _stream(container.add_stream("libx264", rate=job.fps), size)
        # All streams must exist before the first packet.
        audio = _add_tone(container) if job.has_sound else None
        for index in range(frames):
            frame = _to_frame(_frame_planes(scenes, index / (frames - 1), size, mark), size)
            frame.pts, frame.time_base = index, Fraction(1, job.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio:
            _play_tone(container, audio, job.seconds)


def _stream(stream: VideoStream, size: tuple[int, int]) -> VideoStream:
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.options = {"preset": "superfast", "crf": "24"}
    context = stream.codec_context
    context.thread_count, context.thread_type = 2, "FRAME"
    context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1, 1
    return stream


def _load(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            layer = picture.convert("RGBA")
            ground = Image.new("RGBA", layer.size, "white")
            return Image.alpha_composite(ground, layer).convert("RGB")
        return picture.convert("RGB")


def _canvas(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the image on a canvas larger than a frame, so that the end of the push-in is still sharp."""
    ground = _even(size[0] * (1 + _ZOOM)), _even(size[1] * (1 + _ZOOM))
    cover = max(ground[0] / picture.width, ground[1] / picture.height)
    shown = ground[0] * ground[1] / (picture.width * picture.height * cover * cover)
    if 1 - shown <= _MAX_CROP:
        return ImageOps.fit(picture, ground, Image.Resampling.LANCZOS)
    # Cropping would lose too much: show the whole image in front of a blurred and darkened copy of itself.
    small = ImageOps.fit(picture, (ground[0] // 8, ground[1] // 8), Image.Resampling.BOX)
    blurred = small.filter(ImageFilter.GaussianBlur(8)).point([int(value * 0.55) for value in range(256)] * 3)
    backdrop = blurred.resize(ground, Image.Resampling.BICUBIC)
    inner = ImageOps.contain(picture, ground, Image.Resampling.LANCZOS)
    backdrop.paste(inner, ((ground[0] - inner.width) // 2, (ground[1] - inner.height) // 2))
    return backdrop


def _even(value: float) -> int:
    return int(value) // 2 * 2


def _planes(picture: Image.Image) -> Planes:
    luma, blue, red = picture.convert("RGB", _BT709).split()
    half = picture.width // 2, picture.height // 2
    box = Image.Resampling.BOX
    return luma, blue.resize(half, box), red.resize(half, box)


def _frame_planes(
    scenes: list[Planes], moment: float, size: tuple[int, int], mark: tuple[Planes, Planes] | None
) -> Planes:
    """Return the planes of the frame at ``moment`` (0 to 1): of one scene, or of two during a cross-fade."""
    way = moment * (len(scenes) - 1)
    index = min(int(way), max(0, len(scenes) - 2))
    mix = _eased((way - index - 0.35) / 0.5) if len(scenes) > 1 else 0.0
    if mix >= 1.0:
        planes = _view(scenes[index + 1], moment, size)
    else:
        planes = _view(scenes[index], moment, size)
        if mix > 0.0:
            planes = _blend(planes, _view(scenes[index + 1], moment, size), mix)
    if mark:
        for plane, ink, mask in zip(planes, *mark, strict=True):
            plane.paste(ink, (0, 0), mask)
    return planes


def _blend(left: Planes, right: Planes, share: float) -> Planes:
    luma, blue, red = (Image.blend(ours, theirs, share) for ours, theirs in zip(left, right, strict=True))
    return luma, blue, red


def _eased(value: float) -> float:
    value = min(1.0, max(0.0, value))
    return value * value * (3 - 2 * value)


def _view(planes: Planes, moment: float, size: tuple[int, int]) -> Planes:
    """Return what the camera sees on its way from the whole canvas to a point near the centre, in sub-pixel steps."""
    width, height = planes[0].size
    step = moment * 0.75 + _eased(moment) * 0.25
    scale = 1 - step * _ZOOM / (1 + _ZOOM)
    left, top = width * (1 - scale) * 0.58, height * (1 - scale) * 0.42
    box = left, top, left + width * scale, top + height * scale
    half = (box[0] / 2, box[1] / 2, box[2] / 2, box[3] / 2)
    small = size[0] // 2, size[1] // 2
    smooth = Image.Resampling.BILINEAR
    return (
        planes[0].resize(size, smooth, box=box),
        planes[1].resize(small, smooth, box=half),
        planes[2].resize(small, smooth, box=half),
    )


def _watermark_planes(size: tuple[int, int]) -> tuple[Planes, Planes]:
    """Return the watermark's ink and mask, a full frame each: pasting is cheap, drawing text is not."""
    ink, mask = Image.new("L", size, 16), Image.new("L", size, 0)
    font = ImageFont.load_default(min(size) / 28)
    corner = size[0] - min(size) / 28, size[1] - min(size) / 28
    # White with a dark edge, so that it is visible on any image.
    ImageDraw.Draw(mask).text(corner, "KIRIN EMULATOR", fill=170, font=font, anchor="rs", stroke_width=2)
    ImageDraw.Draw(ink).text(corner, "KIRIN EMULATOR", fill=235, font=font, anchor="rs")
    half = mask.resize((size[0] // 2, size[1] // 2), Image.Resampling.BOX)
    grey = Image.new("L", half.size, 128)
    return (ink, grey, grey), (mask, half, half)


def _to_frame(planes: Planes, size: tuple[int, int]) -> av.VideoFrame:
    frame = av.VideoFrame(*size, "yuv420p")
    for plane, picture in zip(frame.planes, planes, strict=True):
        plane.update(b"".join(_rows(picture, plane.line_size)))
    return frame


def _rows(picture: Image.Image, line_size: int) -> Iterator[bytes]:
    """Yield the pixels, with each row padded to the encoder's line size."""
    data = picture.tobytes()
    if picture.width == line_size:
        yield data
        return
    padding = bytes(line_size - picture.width)
    for start in range(0, len(data), picture.width):
        yield data[start : start + picture.width]
        yield padding


def _add_tone(container: OutputContainer) -> AudioStream:
    """Return a mono AAC stream."""
    return container.add_stream("aac", rate=_SAMPLE_RATE, layout="mono")


def _play_tone(container: OutputContainer, stream: AudioStream, seconds: int) -> None:
    """Encode a soft chord of this length into the stream, without numpy."""
    # One second is computed and repeated. It begins and ends in silence, so that no seam is audible.
    second = array.array("h", (_sample(index) for index in range(_SAMPLE_RATE)))
    sound = second * (seconds + 1)
    for start in range(0, seconds * _SAMPLE_RATE, _SAMPLES_PER_FRAME):
        frame = av.AudioFrame(format="s16", layout="mono", samples=_SAMPLES_PER_FRAME)
        frame.planes[0].update(sound[start : start + _SAMPLES_PER_FRAME].tobytes())
        frame.sample_rate, frame.pts, frame.time_base = _SAMPLE_RATE, start, Fraction(1, _SAMPLE_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _sample(index: int) -> int:
    swell = math.sin(math.pi * index / _SAMPLE_RATE)
    return int(2600 * swell * sum(math.sin(2 * math.pi * tone * index / _SAMPLE_RATE) for tone in _CHORD))


def _draw_placeholder(text: str, size: tuple[int, int]) -> Image.Image:
    """Return an image with the text on a gradient with a few discs, in colours that depend on the text."""
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
    shown = textwrap.fill(
        textwrap.shorten(text, _MAX_CARD_TEXT, placeholder=" ..."), max(12, size[0] * 26 // min(size))
    )
    middle = size[0] / 2, size[1] / 2
    draw.multiline_text(middle, shown, "white", font, anchor="mm", align="center", stroke_width=2, stroke_fill="black")
    return card


def _colour(hue: int, lightness: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(hue / 256, lightness, 0.55)
    return round(red * 255), round(green * 255), round(blue * 255)


def main() -> int:
    """Render the job given as JSON on stdin: a prompt does not belong in a process list."""
    job = Job(**json.load(sys.stdin))
    out = Path(job.out)
    draft = out.with_name(f"{out.stem}.{os.getpid()}.part")
    try:
        render(job, draft)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
