"""What stands inside of payloads. Written by scripts/payload_types.py."""

import os
from typing import Literal, Required, TypedDict

#: URL, path, storage URI or Base64 as text; the file itself; or a path object.
Image = str | bytes | bytearray | memoryview | os.PathLike[str]


class WatermarkInfo(TypedDict, total=False):
    """What ``watermark_info`` holds."""

    enabled: Required[bool]


class Common(TypedDict, total=False):
    """What nearly all models take."""

    callback_url: str
    external_task_id: str
    watermark_info: WatermarkInfo


class TrajectoriesItem(TypedDict, total=False):
    """An item of ``trajectories``."""

    x: int
    y: int


class DynamicMasksItem(TypedDict, total=False):
    """An item of ``dynamic_masks``."""

    mask: Image
    trajectories: list[TrajectoriesItem]


class Config(TypedDict, total=False):
    """What ``config`` holds."""

    horizontal: float
    vertical: float
    pan: float
    tilt: float
    roll: float
    zoom: float


class CameraControl(TypedDict, total=False):
    """What ``camera_control`` holds."""

    type: Literal["simple"]
    config: Config


class ImageListItem(TypedDict, total=False):
    """An item of ``image_list``."""

    image: Required[Image]


class KirinV1T2vCameraControl(TypedDict, total=False):
    """What ``camera_control`` holds."""

    type: Literal["simple", "down_back", "forward_up", "right_turn_forward", "left_turn_forward"]
    config: Config


class VoiceListItem(TypedDict, total=False):
    """An item of ``voice_list``."""

    voice_id: str


Duration1To15 = Literal[
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "10",
    "11",
    "12",
    "13",
    "14",
    "15",
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
    15,
]


class MultiPromptItem(TypedDict, total=False):
    """An item of ``multi_prompt``."""

    index: int
    prompt: str
    duration: Duration1To15


class ElementListItem(TypedDict, total=False):
    """An item of ``element_list``."""

    element_id: int


Duration3To15 = Literal[
    "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
]


class KirinV3OmniVideoImageListItem(TypedDict, total=False):
    """An item of ``image_list``."""

    image_url: Required[Image]
    type: Literal["first_frame", "end_frame"]


class VideoListItem(TypedDict, total=False):
    """An item of ``video_list``."""

    video_url: Required[str]
    refer_type: Literal["feature", "base"]
    keep_original_sound: Literal["yes", "no"]


class KirinVideoO1ImageListItem(TypedDict, total=False):
    """An item of ``image_list``."""

    image_url: Image
    image: Image
    type: Literal["first_frame", "end_frame"]


Duration3To10 = Literal["3", "4", "5", "6", "7", "8", "9", "10", 3, 4, 5, 6, 7, 8, 9, 10]
