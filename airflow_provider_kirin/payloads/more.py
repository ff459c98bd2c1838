"""Payloads of models that take other things. Written by scripts/payload_types.py."""

from typing import Literal, Required

from airflow_provider_kirin.payloads.parts import (
    Common,
    Duration3To10,
    Duration3To15,
    ElementListItem,
    ImageListItem,
    KirinV3OmniVideoImageListItem,
    KirinVideoO1ImageListItem,
    MultiPromptItem,
    VideoListItem,
)


class KirinDurationExtensionPayload(Common, total=False):
    """``kirin_duration_extension``: Kirin Duration Extension, a longer video from one made before."""

    video_id: Required[str]
    prompt: str
    negative_prompt: str
    cfg_scale: float


class KirinV1_6MultiI2vPayload(Common, total=False):
    """``kirin_v1_6_multi_i2v``: Kirin V1.6, several images to video."""

    image_list: Required[list[ImageListItem]]
    prompt: Required[str]
    negative_prompt: str
    mode: Literal["std", "pro"]
    duration: Literal["5", "10", 5, 10]
    aspect_ratio: Literal["16:9", "9:16", "1:1"]


class KirinV3OmniVideoPayload(Common, total=False):
    """``kirin_v3_omni_video``: Kirin V3 Omni, text, images or a video to video."""

    multi_shot: bool
    shot_type: Literal["customize"]
    prompt: str
    multi_prompt: list[MultiPromptItem]
    image_list: list[KirinV3OmniVideoImageListItem]
    element_list: list[ElementListItem]
    video_list: list[VideoListItem]
    sound: Literal["on", "off"]
    mode: Literal["std", "pro"]
    aspect_ratio: Literal["16:9", "9:16", "1:1"]
    duration: Duration3To15


class KirinVideoO1Payload(Common, total=False):
    """``kirin_video_o1``: Kirin Video O1, text, images or a video to video."""

    prompt: Required[str]
    image_list: list[KirinVideoO1ImageListItem]
    element_list: list[ElementListItem]
    video_list: list[VideoListItem]
    mode: Literal["std", "pro"]
    aspect_ratio: Literal["16:9", "9:16", "1:1"]
    duration: Duration3To10
