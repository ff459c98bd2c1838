"""What is known of a video, found while its bytes pass by."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

from airflow_provider_kirin.api.video_file import VideoFile
from airflow_provider_kirin.download.mp4 import BoxParser, read_movie


class Inspector:
    """Is fed the bytes of one video, from the first to the last."""

    def __init__(self) -> None:
        self.boxes = BoxParser()
        #: Bytes so far.
        self.size = 0
        self._digest = hashlib.sha256()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the video."""
        self.size += len(data)
        self._digest.update(data)
        self.boxes.feed(data)

    def describe(self, uri: str) -> VideoFile:
        """Return what is known of the video, after its last byte.

        :param uri: where it is
        """
        movie = read_movie(self.boxes.movie_header)
        return VideoFile(uri=uri, bytes=self.size, sha256=self._digest.hexdigest(), **asdict(movie))
