"""Payloads of models that take a text alone. Written by scripts/payload_types.py."""

from typing import Literal, Required

from airflow_provider_kirin.payloads.parts import Common, Duration3To15, KirinV1T2vCameraControl, MultiPromptItem


class KirinV1_6T2vPayload(Common, total=False):
    """``kirin_v1_6_t2v``: Kirin V1.6, text to video."""

    prompt: Required[str]
    negative_prompt: str
    cfg_scale: float
    mode: Literal["std", "pro"]
    aspect_ratio: Literal["16:9", "9:16", "1:1"]
    duration: Literal["5", "10", 5, 10]


class KirinV1T2vPayload(Common, total=False):
    """``kirin_v1_t2v``: Kirin V1, text to video."""

    prompt: Required[str]
    duration: Literal["5", "10", 5, 10]
    aspect_ratio: Literal["16:9", "9:16", "1:1"]
    negative_prompt: str
    cfg_scale: float
    mode: Literal["std", "pro"]
    camera_control: KirinV1T2vCameraControl


class KirinV2_1MasterT2vPayload(Common, total=False):
    """``kirin_v2_1_master_t2v``: Kirin V2.1 Master, text to video."""

    prompt: Required[str]
    aspect_ratio: Literal["16:9", "9:16", "1:1"]
    duration: Literal["5", "10", 5, 10]


class KirinV2_5TurboT2vPayload(Common, total=False):
    """``kirin_v2_5_turbo_t2v``: Kirin V2.5 Turbo, text to video."""

    prompt: Required[str]
    duration: Literal["5", "10", 5, 10]
    aspect_ratio: Literal["16:9", "9:16", "1:1"]
    mode: Literal["std", "pro"]
    negative_prompt: str


class KirinV2_6T2vPayload(Common, total=False):
    """``kirin_v2_6_t2v``: Kirin V2.6, text to video."""

    prompt: Required[str]
    negative_prompt: str
    sound: Literal["on", "off"]
    mode: Literal["std", "pro"]
    aspect_ratio: Literal["16:9", "9:16", "1:1"]
    duration: Literal["5", "10", 5, 10]


class KirinV2MasterT2vPayload(Common, total=False):
    """``kirin_v2_master_t2v``: Kirin V2 Master, text to video."""

    prompt: Required[str]
    negative_prompt: str
    aspect_ratio: Literal["16:9", "9:16", "1:1"]
    duration: Literal["5", "10", 5, 10]


class KirinV3T2vPayload(Common, total=False):
    """``kirin_v3_t2v``: Kirin V3, text to video."""

    multi_shot: bool
    shot_type: Literal["customize"]
    prompt: str
    multi_prompt: list[MultiPromptItem]
    negative_prompt: str
    sound: Literal["on", "off"]
    mode: Literal["std", "pro"]
    aspect_ratio: Literal["16:9", "9:16", "1:1"]
    duration: Duration3To15
