"""The video and its host: a real MP4 of the submitted image behind a signed, expiring link."""

from __future__ import annotations

import base64
import io
import re
import threading

import av
import pytest
import requests

from tests.support.waiting import HANG


def frames_of(data: bytes, wanted: tuple[int, ...]):
    """Stream facts, and some frames as images."""
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        assert len(container.streams) == 1
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 30
        images, count = {}, 0
        for frame in container.decode(stream):
            if count in wanted:
                images[count] = frame.to_image()
            count += 1
        size = stream.codec_context.width, stream.codec_context.height
        return size, count, images, (container.duration or 0) / 1e6


def close(pixel, colour, by=40) -> bool:
    return all(abs(a - b) <= by for a, b in zip(pixel, colour, strict=True))


@pytest.fixture(scope="module")
def landscape(shared_emulator, image):
    """The link and the bytes of a 5 s std video."""
    url = shared_emulator.video_url(shared_emulator.submitted_id(image=image))
    response = requests.get(url, timeout=HANG)
    assert response.status_code == 200
    return url, response


def test_the_video_is_the_image_in_motion(landscape):
    size, count, images, seconds = frames_of(landscape[1].content, (0, 149))
    assert (size, count) == ((1280, 720), 150)
    assert seconds == pytest.approx(5, abs=0.01)
    first, last = images[0], images[149]
    assert close(first.getpixel((60, 60)), (139, 0, 0))
    assert close(first.getpixel((1220, 60)), (255, 165, 0))
    assert close(first.getpixel((600, 400)), (255, 255, 255))
    assert first.tobytes() != last.tobytes()
    # The bar's lower edge moves down as the camera comes nearer.
    assert close(last.getpixel((560, 490)), (255, 255, 255)) != close(first.getpixel((560, 490)), (255, 255, 255))


def test_it_can_be_played_while_it_loads(landscape):
    head = landscape[1].content[:4096]
    assert head[4:8] == b"ftyp"
    assert b"moov" in head
    assert b"mdat" not in head[: head.index(b"moov")]


def test_the_headers_of_a_cdn(landscape):
    url, whole = landscape
    assert whole.headers["Content-Type"] == "video/mp4"
    assert int(whole.headers["Content-Length"]) == len(whole.content)
    head = requests.head(url, timeout=HANG)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["Content-Length"] == whole.headers["Content-Length"]
    assert head.headers["ETag"] == whole.headers["ETag"]
    part = requests.get(url, headers={"Range": "bytes=100-199"}, timeout=HANG)
    assert part.status_code == 206
    assert part.content == whole.content[100:200]
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(whole.content)}"
    beyond = requests.get(url, headers={"Range": f"bytes={len(whole.content)}-"}, timeout=HANG)
    assert beyond.status_code == 416


def test_a_key_at_the_video_host_is_refused(landscape, emulator):
    response = emulator.request("GET", landscape[0].removeprefix(emulator.url))
    assert response.status_code == 400
    assert emulator.api_key not in response.text
    assert emulator.request("GET", "/emulator/requests").json()["requests"][-1]["authorization"] is True


@pytest.mark.parametrize(
    ("pattern", "replacement"), [("Signature=.", "Signature="), ("Expires=1", "Expires=2"), (r"\?.*", ""), ("=", "=é")]
)
def test_a_link_that_was_tampered_with(landscape, pattern, replacement):
    assert requests.get(re.sub(pattern, replacement, landscape[0]), timeout=HANG).status_code == 403


def test_links_expire_and_a_lookup_makes_a_fresh_one(start_emulator, small_image, until):
    image = small_image
    emulator = start_emulator("--seconds", "0", "--url-ttl", "3")
    id_ = emulator.submitted_id(image=image, prompt="[[no-video]]")
    assert emulator.task(id_)["output"] == []
    id_ = emulator.submitted_id(image=image)
    url = emulator.video_url(id_)
    until(lambda: requests.head(url, timeout=HANG).status_code, lambda status: status == 403)
    fresh = emulator.video_url(id_)
    assert fresh != url
    assert requests.head(fresh, timeout=HANG).status_code == 200


def test_a_portrait_stays_portrait(emulator, picture):
    portrait = base64.b64encode(picture(400, 700, "PNG")).decode()
    url = emulator.video_url(emulator.submitted_id(image=portrait))
    size, _, images, _ = frames_of(requests.get(url, timeout=HANG).content, (75,))
    assert size == (720, 1280)
    assert close(images[75].getpixel((60, 200)), (139, 0, 0))
    assert close(images[75].getpixel((660, 200)), (255, 165, 0))


def test_the_mark(emulator, small_image):
    """Drawn where it was asked for, and only there; and the two are not one entry of the shelf."""
    corners = []
    for enabled in (False, True):
        id_ = emulator.submitted_id(image=small_image, watermark_info={"enabled": enabled})
        _, _, images, _ = frames_of(requests.get(emulator.video_url(id_), timeout=HANG).content, (75,))
        corners.append(images[75].crop((400, 640, 720, 720)).convert("L").getextrema())
    assert corners[0][1] - corners[0][0] < 40
    assert corners[1][1] - corners[1][0] > 80


def test_a_square_goes_over_into_its_last_frame(emulator, picture):
    first, last = (base64.b64encode(picture(400, 400, colour=colour)).decode() for colour in ("orange", "blue"))
    id_ = emulator.submitted_id(image=first, image_tail=last, mode="pro")
    size, count, images, _ = frames_of(requests.get(emulator.video_url(id_), timeout=HANG).content, (0, 149))
    assert (size, count) == ((1080, 1080), 150)
    assert close(images[0].getpixel((1000, 100)), (255, 165, 0))
    assert close(images[149].getpixel((1000, 100)), (0, 0, 255))


def test_equal_orders_are_rendered_once(start_emulator, small_image, tmp_path):
    emulator = start_emulator("--seconds", "0", "--state-dir", str(tmp_path))
    for _ in range(5):
        assert (
            requests.get(emulator.video_url(emulator.submitted_id(image=small_image)), timeout=HANG).status_code == 200
        )
    assert emulator.ledger()["downloads"] == 5
    assert len(list(tmp_path.rglob("*.mp4"))) == 1


def test_the_gateway_answers_while_a_video_is_rendered(emulator, picture):
    square = base64.b64encode(picture(500, 500)).decode()
    url = emulator.video_url(emulator.submitted_id(image=square))
    done = threading.Event()
    answered = 0

    def fetch():
        requests.get(url, timeout=HANG)
        done.set()

    thread = threading.Thread(target=fetch)
    thread.start()
    while not done.is_set():
        emulator.request("GET", "/model/api/v1/user/balance")
        answered += 1
    thread.join()
    # One may come before the rendering, and one right after it.
    assert answered > 5


def test_ten_seconds(emulator, small_image):
    url = emulator.video_url(emulator.submitted_id(image=small_image, duration="10"))
    _, count, _, seconds = frames_of(requests.get(url, timeout=HANG).content, ())
    assert count == 300
    assert seconds == pytest.approx(10, abs=0.01)


def test_images_from_urls(emulator, picture, receiver):
    receiver.files["/cup.jpg"] = picture(300, 300)
    receiver.files["/small.jpg"] = picture(200, 200)
    receiver.files["/page.html"] = b"<html>no image</html>"
    good = emulator.submitted_id(image=f"{receiver.url}/cup.jpg")
    assert emulator.ended(good)["status"] == "completed"
    assert requests.head(emulator.video_url(good), timeout=HANG).status_code == 200
    for name in ("small.jpg", "page.html", "missing.jpg"):
        failed = emulator.ended(emulator.submitted_id(image=f"{receiver.url}/{name}"))
        assert failed["error"]["code"] == "8002005002", name
    nobody = emulator.ended(emulator.submitted_id(image="http://127.0.0.1:1/x.png"))
    assert nobody["error"]["code"] == "8002005002"
