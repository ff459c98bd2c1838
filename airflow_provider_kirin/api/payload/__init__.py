"""Normalize and validate a user's payload, and turn it into a :class:`PreparedPayload` that can be sent."""

from airflow_provider_kirin.api.payload.preparation import (
    FitImages,
    PreparedPayload,
    check_fit_images,
    check_static,
    inline_images,
    prepare_payload,
    refuse_secret,
    signed_urls,
    with_example_images,
)

__all__ = [
    "FitImages",
    "PreparedPayload",
    "check_fit_images",
    "check_static",
    "inline_images",
    "prepare_payload",
    "refuse_secret",
    "signed_urls",
    "with_example_images",
]
