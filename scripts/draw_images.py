"""Draw the product pictures of example_dags/images: ``make images``. Original drawings, free of third-party rights.

Shapes are filled at four times the size and scaled down, shaded with gradients, and lit from the upper left.
The output is deterministic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

FOLDER = Path(__file__).resolve().parent.parent / "example_dags" / "images"
SCALE = 4

Color = tuple[int, int, int]
Point = tuple[float, float]
Stops = Sequence[tuple[float, Color]]


def bezier(*control: Point, steps: int = 60) -> list[Point]:
    """Return points of a Bezier curve of any degree."""
    degree = len(control) - 1
    points = []
    for step in range(steps + 1):
        t = step / steps
        weights = [math.comb(degree, i) * t**i * (1 - t) ** (degree - i) for i in range(degree + 1)]
        points.append(
            (
                sum(w * x for w, (x, _) in zip(weights, control, strict=True)),
                sum(w * y for w, (_, y) in zip(weights, control, strict=True)),
            )
        )
    return points


def smooth(*points: Point, steps: int = 16) -> list[Point]:
    """Return a smooth closed curve through all points (Catmull-Rom)."""
    curve: list[Point] = []
    count = len(points)
    for i in range(count):
        a, b, c, d = (points[(i + k - 1) % count] for k in range(4))
        for step in range(steps):
            t = step / steps
            curve.append((_spline(a[0], b[0], c[0], d[0], t), _spline(a[1], b[1], c[1], d[1], t)))
    return curve


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


def mirrored(half: Sequence[Point], axis: float) -> list[Point]:
    """Return a closed outline from its left half, top to bottom."""
    return [*half, *((2 * axis - x, y) for x, y in reversed(half))]


def mix(stops: Stops, t: float) -> Color:
    """Return the color at a position of a gradient."""
    t = min(max(t, stops[0][0]), stops[-1][0])
    for (t0, c0), (t1, c1) in itertools.pairwise(stops):
        if t <= t1:
            part = (t - t0) / (t1 - t0) if t1 > t0 else 0.0
            part = part * part * (3 - 2 * part)
            red, green, blue = (round(a + (b - a) * part) for a, b in zip(c0, c1, strict=True))
            return red, green, blue
    return stops[-1][1]


class Canvas:
    """A picture: coordinates are final pixels, while it is stored at four times that size."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width * SCALE, height * SCALE)
        self.image = Image.new("RGB", self.size)

    def gradient(self, stops: Stops, start: Point, end: Point) -> Image.Image:
        """Return a linear gradient over the whole picture from one point to another."""
        ramp = Image.new("RGB", (1024, 1))
        ramp.putdata([mix(stops, i / 1023) for i in range(1024)])
        (x0, y0), (x1, y1) = start, end
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        across, down = (x1 - x0) / length / SCALE * 1024, (y1 - y0) / length / SCALE * 1024
        offset = -(x0 * (x1 - x0) + y0 * (y1 - y0)) / length * 1024
        # Each pixel takes its color from the ramp; beyond its ends, the outermost color continues.
        wide = Image.new("RGB", (3 * 1024, 1))
        wide.paste(mix(stops, 0.0), (0, 0, 1024, 1))
        wide.paste(ramp, (1024, 0))
        wide.paste(mix(stops, 1.0), (2048, 0, 3072, 1))
        data = (across, down, offset + 1024, 0, 0, 0.5)
        return wide.transform(self.size, Image.Transform.AFFINE, data, Image.Resampling.NEAREST)

    def mask(self, outline: Sequence[Point], blur: float = 0.0) -> Image.Image:
        """Return the inside of an outline as a mask, its edge blurred by a number of pixels."""
        mask = Image.new("L", self.size)
        ImageDraw.Draw(mask).polygon([(x * SCALE, y * SCALE) for x, y in outline], fill=255)
        return self.blurred(mask, blur) if blur else mask

    def blurred(self, mask: Image.Image, radius: float) -> Image.Image:
        """Return a mask blurred; done at the final size, which makes no visible difference."""
        small = mask.resize((self.size[0] // SCALE, self.size[1] // SCALE), Image.Resampling.BOX)
        return small.filter(ImageFilter.GaussianBlur(radius)).resize(self.size, Image.Resampling.BICUBIC)

    def stroke(self, points: Sequence[Point], width: Callable[[float], float]) -> Image.Image:
        """Return a line as a mask; its width is a function of the position along it, 0 to 1."""
        mask = Image.new("L", self.size)
        draw = ImageDraw.Draw(mask)
        dense = [
            (x0 + (x1 - x0) * k / 12, y0 + (y1 - y0) * k / 12)
            for (x0, y0), (x1, y1) in itertools.pairwise(points)
            for k in range(12)
        ]
        for i, (x, y) in enumerate(dense):
            radius = width(i / len(dense)) / 2
            draw.ellipse([(v) * SCALE for v in (x - radius, y - radius, x + radius, y + radius)], fill=255)
        return mask

    def fill(self, mask: Image.Image, paint: Image.Image | Color, opacity: float = 1.0) -> None:
        """Paint through a mask."""
        if opacity < 1.0:
            mask = mask.point(lambda value: round(value * opacity))
        if isinstance(paint, tuple):
            paint = Image.new("RGB", self.size, paint)
        self.image.paste(paint, (0, 0), mask)

    def shade(self, inside: Image.Image, mask: Image.Image, color: Color, opacity: float) -> None:
        """Paint through a mask, limited to the inside of another."""
        self.fill(ImageChops.multiply(inside, mask), color, opacity)

    def studio(self, wall: Stops, floor: Stops, horizon: float, glow: Point) -> None:
        """Paint a studio: a wall, a seamless floor, and a soft light on the wall."""
        width, height = self.size[0] / SCALE, self.size[1] / SCALE
        self.image.paste(self.gradient(wall, (0, 0), (0, horizon)))
        ground = self.mask([(-200, horizon), (width + 200, horizon), (width + 200, height * 1.5), (-200, height * 1.5)])
        self.fill(self.blurred(ground, height * 0.045), self.gradient(floor, (0, horizon), (0, height)))
        radius = width * 0.26
        self.fill(self.mask(ellipse(glow, radius, radius * 0.85), blur=radius * 0.55), (255, 255, 255), 0.45)
        corners = Image.new("L", self.size, 255)
        middle = self.mask(ellipse((width / 2, height / 2), width * 0.62, height * 0.62), blur=width * 0.12)
        self.fill(ImageChops.subtract(corners, middle), (20, 18, 30), 0.28)

    def shadow(self, center: Point, rx: float, ry: float, color: Color) -> None:
        """Paint the shadow of an object on the floor: a wide soft one and a narrow dark one."""
        x, y = center
        self.fill(self.mask(ellipse((x + rx * 0.16, y + ry * 0.3), rx * 1.2, ry * 1.2), blur=ry * 0.55), color, 0.38)
        self.fill(self.mask(ellipse((x, y - ry * 0.1), rx * 0.9, ry * 0.42), blur=ry * 0.2), color, 0.75)

    def save(self, name: str) -> None:
        """Scale down and write the file."""
        size = (self.size[0] // SCALE, self.size[1] // SCALE)
        final = self.image.resize(size, Image.Resampling.LANCZOS)
        path = FOLDER / name
        if path.suffix == ".png":
            palette = final.quantize(256, method=Image.Quantize.MEDIANCUT)
            final.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
        else:
            final.save(path, quality=88, optimize=True, progressive=True)
        print(f"{path.name}: {size[0]}x{size[1]}, {path.stat().st_size:,} bytes")


def ellipse(center: Point, rx: float, ry: float, start: float = 0.0, end: float = 360.0) -> list[Point]:
    """Return the points of an ellipse, or of an arc of it (degrees, clockwise from the right)."""
    steps = 180
    angles = (math.radians(start + (end - start) * i / steps) for i in range(steps + 1))
    return [(center[0] + rx * math.cos(a), center[1] + ry * math.sin(a)) for a in angles]


def teapot() -> Canvas:
    """Draw a glazed green teapot, 1280x720."""
    c = Canvas(1280, 720)
    c.studio(
        wall=[(0, (196, 178, 160)), (1, (240, 228, 212))],
        floor=[(0, (236, 222, 204)), (1, (188, 164, 140))],
        horizon=490,
        glow=(470, 230),
    )
    c.shadow((640, 598), 262, 42, (62, 42, 30))
    glaze: Stops = [
        (0.0, (38, 110, 98)),
        (0.2, (98, 178, 158)),
        (0.36, (158, 216, 198)),
        (0.62, (52, 132, 118)),
        (0.88, (14, 62, 60)),
        (1.0, (30, 84, 78)),
    ]
    body_paint = c.gradient(glaze, (400, 330), (880, 480))
    # Handle and spout are behind the body.
    loop = bezier((812, 300), (1010, 210), (1040, 470), (818, 512))
    handle = c.stroke(loop, lambda t: 34 - 8 * math.sin(math.pi * t))
    c.fill(handle, c.gradient([(0, (122, 196, 176)), (0.5, (34, 102, 94)), (1, (12, 54, 54))], (820, 250), (960, 520)))
    inner = c.stroke([(x - 5, y - 5) for x, y in loop[6:-10]], lambda t: 7)
    c.shade(handle, c.blurred(inner, 3), (214, 240, 230), 0.6)
    spout_line = bezier((490, 500), (360, 470), (380, 330), (272, 282))
    spout = c.stroke(spout_line, lambda t: 104 - 66 * t**0.75)
    c.fill(spout, c.gradient([(0, (176, 224, 208)), (0.4, (86, 164, 146)), (1, (18, 76, 72))], (300, 300), (410, 480)))
    light = c.stroke([(x - 10, y - 12) for x, y in spout_line[14:-6]], lambda t: 14 - 8 * t)
    c.shade(spout, c.blurred(light, 5), (232, 250, 242), 0.7)
    c.fill(c.mask(ellipse((273, 280), 20, 10)), (132, 194, 178))
    c.fill(c.mask(ellipse((273, 281), 15, 6.5)), (6, 30, 30))
    # Body.
    half = [
        *bezier((548, 262), (452, 282), (396, 360), (404, 436), steps=40),
        *bezier((404, 436), (410, 510), (470, 566), (540, 582), steps=40),
        *bezier((540, 582), (556, 592), (560, 600), (566, 602), steps=8),
    ]
    body = c.mask(mirrored(half, 640))
    c.fill(body, body_paint)
    c.shade(body, c.mask(ellipse((640, 640), 260, 100), blur=34), (6, 36, 36), 0.75)
    c.shade(body, c.mask(ellipse((820, 470), 74, 160), blur=40), (4, 34, 36), 0.5)
    c.shade(body, c.mask(ellipse((520, 372), 62, 58), blur=26), (244, 255, 250), 0.75)
    c.shade(body, c.mask(ellipse((503, 352), 26, 17), blur=5), (255, 255, 255), 0.95)
    c.shade(body, c.mask(ellipse((640, 566), 190, 16), blur=12), (150, 190, 160), 0.16)
    c.shade(body, c.mask([(540, 578), (740, 578), (740, 588), (540, 588)], blur=4), (3, 24, 24), 0.7)
    _band(c, body)
    _lid(c)
    return c


def _band(c: Canvas, body: Image.Image) -> None:
    """Draw two gold lines around the teapot's body."""
    for y, width in ((418, 5.0), (432, 2.5)):
        line = c.stroke(ellipse((640, y - 40), 262, 56, 170, 10), lambda t, w=width: w)  # type: ignore[misc]
        gold: Stops = [(0, (170, 122, 52)), (0.28, (255, 232, 168)), (0.6, (190, 138, 58)), (1, (96, 62, 24))]
        c.fill(ImageChops.multiply(body, line), c.gradient(gold, (400, y), (880, y)))


def _lid(c: Canvas) -> None:
    """Draw the teapot's lid and its knob."""
    c.fill(c.mask(ellipse((640, 270), 112, 25)), (10, 50, 50), 0.9)
    dome = c.mask([*ellipse((640, 264), 106, 20, 0, 180), *bezier((534, 264), (552, 206), (728, 206), (746, 264))])
    paint: Stops = [(0, (78, 158, 140)), (0.28, (182, 228, 212)), (0.6, (60, 138, 124)), (1, (14, 62, 60))]
    c.fill(dome, c.gradient(paint, (534, 220), (748, 276)))
    c.shade(dome, c.mask(ellipse((588, 240), 30, 9), blur=5), (255, 255, 255), 0.85)
    c.shade(dome, c.mask(ellipse((640, 222), 44, 10), blur=6), (6, 40, 40), 0.7)
    gold: Stops = [(0, (255, 240, 190)), (0.45, (214, 162, 76)), (1, (112, 72, 28))]
    c.fill(c.mask([(626, 198), (654, 198), (660, 224), (620, 224)]), c.gradient(gold, (620, 200), (660, 214)))
    knob = c.mask(ellipse((640, 188), 26, 23))
    c.fill(knob, c.gradient(gold, (622, 172), (662, 206)))
    c.shade(knob, c.mask(ellipse((631, 180), 8, 6), blur=2), (255, 255, 255), 0.95)


def mug() -> Canvas:
    """Draw a coral mug with steam, 720x1280."""
    c = Canvas(720, 1280)
    c.studio(
        wall=[(0, (150, 172, 186)), (1, (222, 232, 234))],
        floor=[(0, (218, 226, 228)), (1, (146, 162, 172))],
        horizon=860,
        glow=(270, 470),
    )
    c.shadow((350, 992), 190, 38, (34, 44, 58))
    for x, lean, opacity in ((270, 40, 0.30), (342, -46, 0.40), (408, 36, 0.26)):
        line = bezier((x, 590), (x + lean, 500), (x - lean * 1.6, 430), (x + lean * 0.4, 290))
        c.fill(
            c.blurred(c.stroke(line, lambda t: 20 * math.sin(math.pi * (0.15 + 0.85 * t)) + 4), 12), (255,) * 3, opacity
        )
    loop = bezier((500, 690), (680, 660), (690, 900), (486, 896))
    handle = c.stroke(loop, lambda t: 42 - 6 * math.sin(math.pi * t))
    c.fill(
        handle, c.gradient([(0, (250, 160, 132)), (0.55, (196, 82, 62)), (1, (120, 40, 36))], (500, 660), (620, 910))
    )
    c.shade(
        handle, c.blurred(c.stroke([(x - 4, y - 7) for x, y in loop[4:-18]], lambda t: 9), 4), (255, 232, 220), 0.65
    )
    left = [(186, 606), *bezier((186, 606), (188, 760), (194, 900), (206, 948), steps=30)]
    base = bezier((206, 948), (222, 1004), (478, 1004), (494, 948), steps=40)
    right = [*bezier((494, 948), (506, 900), (512, 760), (514, 606), steps=30)]
    body = c.mask([*left, *base, *right, *ellipse((350, 606), 164, 38, 0, 180)])
    coral: Stops = [
        (0.0, (196, 84, 64)),
        (0.22, (244, 142, 114)),
        (0.36, (255, 182, 156)),
        (0.6, (226, 104, 80)),
        (0.88, (142, 48, 42)),
        (1.0, (168, 66, 54)),
    ]
    c.fill(body, c.gradient(coral, (186, 760), (514, 800)))
    c.shade(body, c.mask(ellipse((350, 1010), 190, 60), blur=24), (70, 18, 20), 0.55)
    c.shade(body, c.mask([(236, 660), (262, 664), (266, 900), (244, 896)], blur=10), (255, 244, 238), 0.75)
    heart = smooth((350, 842), (292, 786), (284, 742), (318, 722), (350, 752), (382, 722), (416, 742), (408, 786))
    c.fill(c.mask(heart), c.gradient([(0, (255, 250, 244)), (1, (236, 212, 200))], (290, 720), (410, 840)))
    rim = c.mask(ellipse((350, 604), 164, 40))
    c.fill(rim, c.gradient([(0, (255, 214, 196)), (0.5, (246, 158, 132)), (1, (186, 82, 66))], (190, 590), (510, 620)))
    inside = c.mask(ellipse((350, 606), 150, 32))
    c.fill(inside, c.gradient([(0, (126, 46, 38)), (1, (226, 132, 108))], (200, 600), (500, 612)))
    coffee = ImageChops.multiply(inside, c.mask(ellipse((350, 622), 144, 28)))
    c.fill(coffee, c.gradient([(0, (92, 56, 36)), (0.4, (58, 32, 20)), (1, (34, 18, 12))], (220, 600), (480, 640)))
    c.shade(coffee, c.mask(ellipse((292, 618), 44, 6), blur=3), (214, 170, 130), 0.6)
    return c


def sneaker() -> Canvas:
    """Draw a white and blue sneaker, 800x800."""
    c = Canvas(800, 800)
    c.studio(
        wall=[(0, (238, 188, 92)), (1, (252, 220, 148))],
        floor=[(0, (250, 214, 138)), (1, (222, 164, 76))],
        horizon=530,
        glow=(300, 280),
    )
    c.shadow((410, 612), 296, 36, (84, 46, 8))
    upper_outline = smooth(
        (128, 540), (112, 470), (124, 386), (138, 322), (176, 300), (226, 322), (276, 334), (322, 312), (362, 300),
        (402, 346), (462, 402), (540, 438), (632, 462), (686, 502), (694, 548), (560, 560), (400, 562), (240, 560),
    )  # fmt: skip
    upper = c.mask(upper_outline)
    white: Stops = [(0, (255, 255, 255)), (0.55, (232, 236, 242)), (1, (168, 178, 194))]
    c.fill(upper, c.gradient(white, (300, 320), (420, 580)))
    # The opening, and the tongue in it.
    tongue = c.mask(smooth((300, 330), (322, 256), (372, 246), (394, 286), (416, 352), (360, 352)))
    c.fill(tongue, c.gradient([(0, (92, 138, 220)), (1, (30, 62, 138))], (310, 250), (410, 350)))
    c.fill(upper, c.gradient(white, (300, 320), (420, 580)))
    collar = c.stroke(smooth((176, 300), (226, 322), (276, 334), (322, 312), (362, 300))[:64], lambda t: 16)
    c.fill(collar, c.gradient([(0, (74, 118, 204)), (1, (24, 50, 118))], (170, 300), (360, 330)))
    _sneaker_panels(c, upper)
    _sneaker_laces(c)
    _sneaker_sole(c)
    return c


def _sneaker_panels(c: Canvas, upper: Image.Image) -> None:
    """Draw the blue heel, the toe cap and the wave on the side."""
    blue = c.gradient([(0, (84, 132, 222)), (0.5, (46, 88, 178)), (1, (20, 44, 108))], (120, 320), (260, 570))
    heel = c.mask(smooth((96, 300), (182, 292), (214, 372), (206, 470), (222, 580), (90, 580)))
    c.fill(ImageChops.multiply(upper, heel), blue)
    toe = c.mask(smooth((590, 440), (556, 500), (566, 580), (720, 590), (720, 460)))
    toe_paint = c.gradient([(0, (110, 154, 234)), (0.5, (52, 96, 188)), (1, (24, 50, 118))], (580, 450), (690, 570))
    c.fill(ImageChops.multiply(upper, toe), toe_paint)
    c.shade(upper, c.mask(ellipse((618, 486), 34, 9), blur=6), (255, 255, 255), 0.6)
    wave = c.stroke(bezier((222, 500), (330, 560), (420, 500), (470, 420)), lambda t: 40 - 30 * t)
    orange = c.gradient([(0, (246, 138, 60)), (1, (222, 86, 42))], (230, 440), (470, 540))
    c.fill(ImageChops.multiply(upper, wave), orange)
    c.shade(upper, c.mask(ellipse((410, 580), 320, 34), blur=16), (60, 70, 96), 0.55)
    c.shade(upper, c.mask(ellipse((300, 400), 66, 34), blur=22), (255, 255, 255), 0.9)
    seam = c.stroke(bezier((402, 352), (420, 440), (470, 500), (560, 520)), lambda t: 2.2)
    c.shade(upper, seam, (120, 132, 156), 0.8)
    pull = c.stroke(bezier((136, 330), (104, 320), (112, 380), (128, 384)), lambda t: 9)
    c.fill(pull, (224, 92, 46))


def _sneaker_laces(c: Canvas) -> None:
    """Draw five laces across the throat, each with its shadow and its eyelets."""
    for i in range(5):
        x, y = 352 + i * 31, 322 + i * 27
        lace = bezier((x - 34, y + 34 - i), (x - 12, y + 2), (x + 8, y - 8), (x + 28, y - 4 + i))
        c.fill(c.blurred(c.stroke([(a + 2, b + 6) for a, b in lace], lambda t: 11), 3), (40, 50, 76), 0.4)
        c.fill(
            c.stroke(lace, lambda t: 11),
            c.gradient([(0, (255, 255, 255)), (1, (206, 214, 228))], (x, y - 10), (x, y + 30)),
        )
        c.fill(c.mask(ellipse((x - 36, y + 37 - i), 6, 6)), (46, 88, 178))
        c.fill(c.mask(ellipse((x - 36, y + 37 - i), 2.6, 2.6)), (14, 28, 66))


def _sneaker_sole(c: Canvas) -> None:
    """Draw the thick sole, its stripe and its grooves."""
    outline = smooth(
        (112, 540), (108, 572), (122, 602), (200, 610), (400, 612), (600, 608), (690, 590), (712, 552), (696, 532),
        (640, 548), (540, 556), (400, 556), (240, 552), (160, 540),
    )  # fmt: skip
    sole = c.mask(outline)
    c.fill(
        sole, c.gradient([(0, (255, 255, 255)), (0.5, (240, 240, 242)), (1, (168, 170, 182))], (400, 540), (400, 614))
    )
    stripe = c.stroke(bezier((108, 574), (260, 592), (560, 596), (708, 562)), lambda t: 5)
    c.shade(sole, stripe, (222, 86, 42), 1.0)
    for x in range(140, 690, 22):
        c.shade(sole, c.stroke([(x, 598), (x + 4, 616)], lambda t: 4), (120, 124, 140), 0.7)


def main() -> None:
    """Draw all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    teapot().save("teapot.jpg")
    mug().save("mug.jpg")
    sneaker().save("sneaker.png")


if __name__ == "__main__":
    main()
