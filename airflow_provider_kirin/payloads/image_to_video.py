"""Payloads of models that take an image. Written by scripts/payload_types.py."""

from typing import Literal, Required

from airflow_provider_kirin.payloads.parts import (
    CameraControl,
    Common,
    Duration3To15,
    DynamicMasksItem,
    ElementListItem,
    Image,
    MultiPromptItem,
    VoiceListItem,
)


class KirinV1_5I2vPayload(Common, total=False):
    """``kirin_v1_5_i2v``: Kirin V1.5, image to video."""

    image: Image
    image_tail: Image
    static_mask: Image
    dynamic_masks: list[DynamicMasksItem]
    camera_control: CameraControl
    prompt: str
    negative_prompt: str
    mode: Literal["std", "pro"]
    cfg_scale: float
    duration: Literal["5", "10", 5, 10]


class KirinV1_6I2vPayload(Common, total=False):
    """``kirin_v1_6_i2v``: Kirin V1.6, image to video."""

    image: Image
    image_tail: Image
    prompt: str
    negative_prompt: str
    mode: Literal["std", "pro"]
    cfg_scale: float
    duration: Literal["5", "10", 5, 10]
    callback: str


class KirinV1I2vPayload(Common, total=False):
    """``kirin_v1_i2v``: Kirin V1, image to video."""

    image: Required[Image]
    image_tail: Image
    static_mask: Image
    dynamic_masks: list[DynamicMasksItem]
    prompt: str
    mode: Literal["std", "pro"]
    negative_prompt: str
    cfg_scale: float
    duration: Literal["5", "10", 5, 10]


class KirinV2_1I2vPayload(Common, total=False):
    """``kirin_v2_1_i2v``: Kirin V2.1, image to video."""

    image: Image
    image_tail: Image
    prompt: str
    negative_prompt: str
    mode: Literal["std", "pro"]
    duration: Literal["5", "10", 5, 10]


class KirinV2_1MasterI2vPayload(Common, total=False):
    """``kirin_v2_1_master_i2v``: Kirin V2.1 Master, image to video."""

    image: Required[Image]
    prompt: str
    duration: Literal["5", "10", 5, 10]


class KirinV2_5TurboI2vPayload(Common, total=False):
    """``kirin_v2_5_turbo_i2v``: Kirin V2.5 Turbo, image to video."""

    image: Required[Image]
    prompt: str
    negative_prompt: str
    duration: Literal["5", "10", 5, 10]
    mode: Literal["std", "pro"]
    image_tail: Image


class KirinV2_6I2vPayload(Common, total=False):
    """``kirin_v2_6_i2v``: Kirin V2.6, image to video."""

    image: Image
    image_tail: Image
    prompt: str
    sound: Literal["on", "off"]
    negative_prompt: str
    voice_list: list[VoiceListItem]
    mode: Literal["std", "pro"]
    duration: Literal["5", "10", 5, 10]


class KirinV2MasterI2vPayload(Common, total=False):
    """``kirin_v2_master_i2v``: Kirin V2 Master, image to video."""

    image: Required[Image]
    prompt: str
    negative_prompt: str
    duration: Literal["5", "10", 5, 10]


class KirinV3I2vPayload(Common, total=False):
    """``kirin_v3_i2v``: Kirin V3, image to video."""

    image: Image
    image_tail: Image
    multi_shot: bool
    shot_type: Literal["customize"]
    prompt: str
    multi_prompt: list[MultiPromptItem]
    element_list: list[ElementListItem]
    voice_list: list[VoiceListItem]
    sound: Literal["on", "off"]
    negative_prompt: str
    mode: Literal["std", "pro"]
    duration: Duration3To15
