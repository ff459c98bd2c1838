"""Images that break a limit become the nearest ones that do not: real files, read again by Pillow."""

from __future__ import annotations

import base64
import io
import logging
import random
import subprocess
import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import PIL
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, ImageStat

from airflow_provider_kirin.api import images
from airflow_provider_kirin.api.images import ImageRejected, PreparedImage, resize
from airflow_provider_kirin.api.images.resize import plan
from airflow_provider_kirin.api.images.rules import ImageRules

RULES = ImageRules(max_bytes=10_000_000, min_side=300, max_ratio=2.5)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), (200, 30, 30))
    image.paste((30, 30, 200), (width // 2, 0, width, height))
    return image.convert(mode)


def noise(width: int, height: int) -> Image.Image:
    """Hard to compress, and the same each time."""
    return Image.frombytes("RGB", (width, height), random.Random(7).randbytes(width * height * 3))


def fitted(data: bytes, rules: ImageRules = RULES) -> PreparedImage:
    return images.prepare_image(data, field="image", rules=rules, fitting=True)


def opened(prepared: PreparedImage) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(prepared.text)))
    image.load()
    assert (prepared.format, prepared.width, prepared.height) == (image.format, *image.size)
    return image


def refused(data: bytes, rules: ImageRules = RULES) -> str:
    with pytest.raises(ImageRejected) as caught:
        fitted(data, rules)
    return str(caught.value)


def near(colour: Any, wanted: tuple[int, ...]) -> bool:
    return all(abs(one - other) <= 12 for one, other in zip(colour, wanted, strict=True))


class TestWhatFitsIsLeftAlone:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_to_the_byte(self, kind: str) -> None:
        data = file_of(picture(400, 300), kind)
        prepared = fitted(data)
        assert base64.b64decode(prepared.text) == data and prepared.fitted is None
        assert prepared.identity == prepared.sha256

    def test_a_url_is_passed_on_unchanged(self) -> None:
        prepared = images.prepare_image("https://h.example/a.webp", field="image", rules=RULES, fitting=True)
        assert prepared.text == "https://h.example/a.webp" and prepared.size is None and prepared.fitted is None

    def test_nothing_is_changed_unless_requested(self) -> None:
        with pytest.raises(ImageRejected):
            images.prepare_image(file_of(picture(400, 300), "WEBP"), field="image", rules=RULES)


class TestFormats:
    @pytest.mark.parametrize(("kind", "becomes"), [("WEBP", "JPEG"), ("TIFF", "PNG"), ("BMP", "PNG"), ("GIF", "PNG")])
    def test_other_formats_become_an_accepted_one(self, kind: str, becomes: str) -> None:
        prepared = fitted(file_of(picture(400, 300), kind))
        image = opened(prepared)
        assert (image.format, image.size) == (becomes, (400, 300))
        assert near(image.getpixel((20, 20)), (200, 30, 30)) and near(image.getpixel((380, 280)), (30, 30, 200))
        assert prepared.fitted is not None and prepared.fitted.startswith(
            kind.replace("WEBP", "WebP") + ", 400 x 300 px"
        )
        assert f"saved as {becomes}" in prepared.fitted

    @pytest.mark.parametrize(
        "mode",
        [
            *("1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I"),
            pytest.param(
                "YCbCr",
                marks=pytest.mark.skipif(PIL.__version__ < "13", reason="such a TIFF looks truncated to older Pillows"),
            ),
        ],
    )
    def test_of_every_kind_of_samples(self, mode: str) -> None:
        grey = Image.new("L", (400, 300), 128)
        image = Image.new(mode, (400, 300), 128 * 257) if mode.startswith("I") else None
        if image is None:
            image = grey.quantize(2) if mode == "P" else grey.convert("RGB").convert(mode)
        prepared = fitted(file_of(image, "TIFF"))
        colour = opened(prepared).convert("RGB").getpixel((9, 9))
        if mode == "1":
            assert colour in ((0, 0, 0), (255, 255, 255))
        else:
            assert near(colour, (128, 128, 128)), colour

    @pytest.mark.parametrize("mode", ["F", "LAB"])
    def test_modes_that_pillow_cannot_convert_are_rejected(self, mode: str) -> None:
        assert f"these are {mode}" in refused(file_of(Image.new(mode, (400, 300)), "TIFF"))

    def test_transparency_is_kept_where_it_can_be(self) -> None:
        image = picture(400, 300, "RGBA")
        image.putpixel((0, 0), (0, 0, 0, 0))
        for kind in ("WEBP", "TIFF"):
            made = opened(fitted(file_of(image, kind, **({"lossless": True} if kind == "WEBP" else {}))))
            assert made.format == "PNG" and made.getpixel((0, 0))[3] == 0  # type: ignore[index]

    def test_transparency_is_filled_with_white_if_only_jpeg_is_allowed(self) -> None:
        prepared = fitted(
            file_of(Image.new("RGBA", (400, 300), (255, 0, 0, 0)), "WEBP", lossless=True, exact=True),
            ImageRules(max_bytes=10_000_000, min_side=300, formats=("JPEG",)),
        )
        assert near(opened(prepared).getpixel((5, 5)), (255, 255, 255))
        assert prepared.fitted is not None and "transparency filled with white" in prepared.fitted

    def test_a_palette_with_a_transparent_colour_has_transparency(self) -> None:
        image = picture(400, 300).convert("P")
        prepared = fitted(file_of(image, "GIF", transparency=image.getpixel((5, 5))))
        assert opened(prepared).mode == "RGBA"

    def test_if_only_png_is_accepted_the_result_is_png(self) -> None:
        rules = ImageRules(max_bytes=10_000_000, min_side=300, formats=("PNG",))
        assert opened(fitted(file_of(picture(400, 300), "JPEG"), rules)).format == "PNG"
        image = opened(fitted(file_of(noise(400, 300)), ImageRules(max_bytes=200_000, min_side=100, formats=("PNG",))))
        assert image.format == "PNG" and image.width < 400

    def test_of_an_animation_the_first_frame_is_taken(self) -> None:
        frames = [Image.new("RGB", (400, 300), colour) for colour in ("red", "green")]
        prepared = fitted(file_of(frames[0], "GIF", save_all=True, append_images=frames[1:]))
        assert near(opened(prepared).convert("RGB").getpixel((5, 5)), (255, 0, 0))
        assert prepared.fitted is not None and "first frame taken" in prepared.fitted

    def test_the_profile_of_the_colours_comes_along(self) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        image = opened(fitted(file_of(picture(1000, 300), "JPEG", icc_profile=profile)))
        assert image.size == (1000, 400) and image.info["icc_profile"] == profile

    def test_the_profile_is_dropped_if_the_colours_are_converted(self) -> None:
        image = opened(fitted(file_of(picture(400, 300, "CMYK"), "TIFF", icc_profile=b"for ink")))
        assert "icc_profile" not in image.info


class TestShapes:
    @pytest.mark.parametrize(
        ("size", "becomes"),
        [
            ((150, 100), (450, 300)),
            ((299, 299), (300, 300)),
            ((1000, 300), (1000, 400)),
            ((300, 1000), (400, 1000)),
            ((10, 10), (300, 300)),
            ((1000, 10), (1000, 400)),
            ((100, 10), (750, 300)),
        ],
    )
    def test_are_scaled_up_and_padded_as_little_as_can_be(
        self, size: tuple[int, int], becomes: tuple[int, int]
    ) -> None:
        assert opened(fitted(file_of(picture(*size)))).size == becomes

    def test_too_many_pixels_are_scaled_down(self) -> None:
        rules = ImageRules(max_bytes=10_000_000, min_side=300, max_ratio=2.5, max_pixels=500_000)
        image = opened(fitted(file_of(picture(1200, 900)), rules))
        assert 490_000 < image.width * image.height <= 500_000
        assert image.width / image.height == pytest.approx(4 / 3, abs=0.01)

    def test_nothing_is_cropped_and_bars_continue_the_edges(self) -> None:
        image = opened(fitted(file_of(picture(300, 1500))))
        assert image.size == (600, 1500)
        assert near(image.getpixel((5, 700)), (200, 30, 30)) and near(image.getpixel((595, 700)), (30, 30, 200))
        assert near(image.getpixel((155, 5)), (200, 30, 30)) and near(image.getpixel((445, 1495)), (30, 30, 200))
        image = opened(fitted(file_of(picture(1500, 300))))
        assert image.size == (1500, 600) and near(image.getpixel((750, 5)), (115, 30, 115))

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_an_image_is_turned_upright(self, orientation: int, kind: str) -> None:
        upright = Image.new("RGB", (400, 200), "white")
        upright.paste((200, 30, 30), (0, 0, 100, 100))
        turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
        stored = upright.transpose(Image.Transpose(turns[orientation])) if orientation in turns else upright
        exif = Image.Exif()
        exif[0x0112] = orientation
        prepared = fitted(file_of(stored, kind, exif=exif, quality=95))
        image = opened(prepared)
        assert image.size == (600, 300)
        assert near(image.getpixel((20, 20)), (200, 30, 30)) and near(image.getpixel((580, 280)), (255, 255, 255))
        assert image.getexif().get(0x0112, 1) == 1
        assert prepared.fitted is not None and ("turned upright" in prepared.fitted) is (orientation != 1)

    @given(
        width=st.integers(1, 50_000),
        height=st.integers(1, 50_000),
        scale=st.floats(0.001, 1),
        max_ratio=st.none() | st.sampled_from([1, 1.15, 2, 2.5, 3]),
        min_side=st.integers(1, 700),
        spare=st.integers(1, 100),
    )
    @example(width=1, height=50_000, scale=1.0, max_ratio=None, min_side=300, spare=1)
    def test_the_plan_breaks_no_rule(
        self, width: int, height: int, scale: float, max_ratio: float | None, min_side: int, spare: int
    ) -> None:
        max_pixels = int(min_side * min_side * (max_ratio or 1)) + spare * min_side
        rules = ImageRules(max_bytes=1, min_side=min_side, max_ratio=max_ratio, max_pixels=max_pixels)
        (across, down), (wide, high) = plan(width, height, rules, scale=scale)
        assert 1 <= across <= wide and 1 <= down <= high
        assert min(wide, high) >= min_side and wide * high <= max_pixels
        if max_ratio is not None:
            assert max(wide, high) <= Fraction(str(max_ratio)) * min(wide, high)


class TestBytes:
    def test_a_large_jpeg_is_saved_at_a_lower_quality(self) -> None:
        data = file_of(noise(600, 400), "JPEG", quality=100)
        prepared = fitted(data, ImageRules(max_bytes=len(data) * 7 // 10, min_side=300))
        assert opened(prepared).size == (600, 400) and prepared.size is not None and prepared.size < len(data) * 7 // 10
        assert prepared.fitted is not None and "scaled" not in prepared.fitted and "JPEG of quality" in prepared.fitted

    def test_a_large_png_becomes_a_jpeg(self) -> None:
        data = file_of(noise(600, 400))
        assert opened(fitted(data, ImageRules(max_bytes=len(data), min_side=300))).format == "JPEG"

    def test_what_is_too_large_at_every_quality_is_scaled_down(self) -> None:
        prepared = fitted(file_of(noise(1000, 800)), ImageRules(max_bytes=100_000, min_side=300))
        image = opened(prepared)
        assert image.width < 1000 and image.width / image.height == pytest.approx(1.25, abs=0.01)
        assert prepared.size is not None and prepared.size < 100_000
        assert prepared.fitted is not None and f"scaled to {image.width} x {image.height} px" in prepared.fitted

    def test_an_image_that_cannot_shrink_enough_is_rejected(self) -> None:
        assert "smaller than 500 bytes" in refused(file_of(noise(400, 300)), ImageRules(max_bytes=500, min_side=300))

    def test_an_original_has_a_limit_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = file_of(noise(100, 100), "BMP")
        monkeypatch.setattr(resize, "MAX_ORIGINAL", len(data))
        assert "must have less than" in refused(data)


class TestWhatCannotBeMadeToFit:
    @pytest.mark.parametrize("data", [b"%PDF-1.7 and more", b"no image at all", b"\0\0\0\x18ftypmp42", b""])
    def test_a_file_that_is_not_an_image_is_rejected(self, data: bytes) -> None:
        assert "the content of the image must be JPEG or PNG" in refused(data) or "cannot be empty" in refused(data)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
    def test_damaged_files(self, kind: str) -> None:
        data = file_of(noise(400, 100), kind)
        text = refused(data[: len(data) // 2])
        assert "undamaged" in text and "nothing" not in text

    def test_damaged_files_that_are_too_large_as_well(self) -> None:
        data = file_of(noise(400, 300), "JPEG", quality=100)
        assert "ends too early" in refused(data[:-100], ImageRules(max_bytes=1000, min_side=300))

    def test_a_jpeg_without_its_end_is_read_as_far_as_its_pixels_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = (Path(__file__).parent / "images" / "jpeg-no-eoi-samsung-trailer.jpg").read_bytes()
        image = opened(fitted(data))
        with Image.open(io.BytesIO(data)) as original:
            assert near(ImageStat.Stat(image).mean, tuple(ImageStat.Stat(original).mean))
        with pytest.raises(ImageRejected, match="ends too early"):
            images.prepare_image(data, field="image", rules=RULES)
        # Pillow would fill what is missing with grey: other code in this process wants it to.
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        assert "ends too early" in refused(data)

    @pytest.mark.parametrize("progressive", [False, True])
    def test_a_jpeg_that_is_cut_anywhere(self, progressive: bool) -> None:
        data = file_of(noise(24, 16), "JPEG", progressive=progressive)
        pixels = opened(fitted(data)).tobytes()
        for length in range(len(data)):
            with suppress(ImageRejected):
                # Nothing but its end was cut off.
                assert opened(fitted(data[:length])).convert("RGB").tobytes() == pixels

    def test_bombs(self) -> None:
        bomb = file_of(Image.new("1", (30_000, 3_100)), "TIFF", compression="tiff_lzw")
        assert len(bomb) < 100_000
        assert "may have at most 89,478,485 pixels" in refused(bomb)

    def test_bombs_of_the_two_formats_that_are_taken(self) -> None:
        bomb = file_of(Image.new("1", (30_000, 3_100)), "PNG")
        assert "may have at most 89,478,485 pixels" in refused(bomb)


class TestIdentity:
    def test_the_same_file_gives_the_same_bytes(self) -> None:
        data = file_of(noise(500, 100), "WEBP")
        assert fitted(data).text == fitted(data).text

    def test_is_that_of_the_file_that_was_given(self) -> None:
        data = file_of(picture(1000, 300), "JPEG")
        prepared, plain = (
            fitted(data),
            images.prepare_image(data, field="i", rules=ImageRules(10_000_000, 300), fitting=False),
        )
        assert prepared.identity == plain.sha256 != prepared.sha256

    def test_a_fitted_image_shows_no_bytes(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        prepared = fitted(file_of(picture(1000, 300), "WEBP"))
        shown = f"{prepared} {prepared!r} {prepared.fitted}"
        assert prepared.text[:40] not in shown and len(shown) < 500


MEMORY = """
import resource, sys
sys.path.insert(0, {root!r})
from airflow_provider_kirin.api import images
from PIL import Image, JpegImagePlugin, PngImagePlugin
data = open({path!r}, "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = images.prepare_image(data, field="image", rules=images.ImageRules(10_000_000, 300, max_ratio=2.5), fitting=True)
print(made.width * made.height, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_the_largest_original_takes_less_than_a_gigabyte(tmp_path: Any) -> None:
    path = tmp_path / "large.png"
    Image.new("RGBA", (11_000, 8_100), (9, 9, 9, 9)).save(path, compress_level=1)
    script = MEMORY.format(root=str(Path(__file__).parents[3]), path=str(path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pixels, kilobytes = map(int, done.stdout.split())
    assert pixels <= 50_000_000
    assert kilobytes < 1_000_000, kilobytes
