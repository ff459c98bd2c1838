"""Sound for models that have it: a soft chord, as AAC, without numpy."""

from __future__ import annotations

import array
import math
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer

RATE = 44_100
_CHORD = (220.0, 277.18, 329.63)
_STEP = 1024


def add_tone(container: OutputContainer) -> AudioStream:
    """A mono AAC stream beside the picture."""
    return container.add_stream("aac", rate=RATE, layout="mono")


def play_tone(container: OutputContainer, stream: AudioStream, seconds: int) -> None:
    """Encode a chord of this length into the stream."""
    # One second is computed and repeated: it swells from silence to silence, so that no seam is heard.
    second = array.array("h", (_sample(index) for index in range(RATE)))
    sound = second * (seconds + 1)
    for start in range(0, seconds * RATE, _STEP):
        frame = av.AudioFrame(format="s16", layout="mono", samples=_STEP)
        frame.planes[0].update(sound[start : start + _STEP].tobytes())
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _sample(index: int) -> int:
    swell = math.sin(math.pi * index / RATE)
    return int(2600 * swell * sum(math.sin(2 * math.pi * tone * index / RATE) for tone in _CHORD))
