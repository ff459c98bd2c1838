"""Load, validate and resize images, and turn them into a :class:`PreparedImage` that can be sent."""

from airflow_provider_kirin.api.images.preparation import (
    PreparedImage,
    check_without_reading,
    is_inline,
    looks_like_image,
    prepare_image,
)
from airflow_provider_kirin.api.images.rules import ImageRules
from airflow_provider_kirin.api.images.sources import ImageRejected, OpenUri, describe, is_signed_url

__all__ = [
    "ImageRejected",
    "ImageRules",
    "OpenUri",
    "PreparedImage",
    "check_without_reading",
    "describe",
    "is_inline",
    "is_signed_url",
    "looks_like_image",
    "prepare_image",
]
