"""What is in the S3 server of the tests."""

from __future__ import annotations

from typing import Any


def stored(s3: Any, key: str) -> bytes:
    """Return the content of an object of the bucket ``videos``."""
    return s3.get_object(Bucket="videos", Key=key)["Body"].read()


def keys(s3: Any) -> list[str]:
    """Return the keys of the bucket ``videos``."""
    return [found["Key"] for found in s3.list_objects_v2(Bucket="videos").get("Contents", [])]


def unfinished(s3: Any) -> list[Any]:
    """Return the uploads to it that are under way."""
    return s3.list_multipart_uploads(Bucket="videos").get("Uploads", [])
