"""Types of the payloads, one a model, for editors and type checkers; nothing imports them at run time.

Written by scripts/payload_types.py from api/models/*.json: change those, then ``make models``. Values are typed as they
are sent, and whole seconds may be numbers too. A payload with templates in it is better an ordinary dict.
"""

from airflow_provider_kirin.payloads.image_to_video import (
    KirinV1_5I2vPayload,
    KirinV1_6I2vPayload,
    KirinV1I2vPayload,
    KirinV2_1I2vPayload,
    KirinV2_1MasterI2vPayload,
    KirinV2_5TurboI2vPayload,
    KirinV2_6I2vPayload,
    KirinV2MasterI2vPayload,
    KirinV3I2vPayload,
)
from airflow_provider_kirin.payloads.more import (
    KirinDurationExtensionPayload,
    KirinV1_6MultiI2vPayload,
    KirinV3OmniVideoPayload,
    KirinVideoO1Payload,
)
from airflow_provider_kirin.payloads.parts import Image
from airflow_provider_kirin.payloads.text_to_video import (
    KirinV1_6T2vPayload,
    KirinV1T2vPayload,
    KirinV2_1MasterT2vPayload,
    KirinV2_5TurboT2vPayload,
    KirinV2_6T2vPayload,
    KirinV2MasterT2vPayload,
    KirinV3T2vPayload,
)

__all__ = [
    "Image",
    "KirinDurationExtensionPayload",
    "KirinV1I2vPayload",
    "KirinV1T2vPayload",
    "KirinV1_5I2vPayload",
    "KirinV1_6I2vPayload",
    "KirinV1_6MultiI2vPayload",
    "KirinV1_6T2vPayload",
    "KirinV2MasterI2vPayload",
    "KirinV2MasterT2vPayload",
    "KirinV2_1I2vPayload",
    "KirinV2_1MasterI2vPayload",
    "KirinV2_1MasterT2vPayload",
    "KirinV2_5TurboI2vPayload",
    "KirinV2_5TurboT2vPayload",
    "KirinV2_6I2vPayload",
    "KirinV2_6T2vPayload",
    "KirinV3I2vPayload",
    "KirinV3OmniVideoPayload",
    "KirinV3T2vPayload",
    "KirinVideoO1Payload",
]
