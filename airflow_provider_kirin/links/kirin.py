"""What a click on a task instance in Airflow's UI leads to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

from airflow_provider_kirin.utils.task_instance import map_index_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


#: The prefix of the pages that :mod:`airflow_provider_kirin.plugins` adds to Airflow's web server.
PAGES = "kirin"


class KirinGenerationLink(BaseOperatorLink):
    """The page of the step's generation: state, ids, cost, and the video with a fresh link. Airflow 3.1 and later."""

    @property
    def name(self) -> str:
        """The text of the button."""
        return "Kirin generation"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the link: relative to the UI, wherever that is; empty before Airflow 3.1.

        :param operator: Airflow's
        :param ti_key: Airflow's
        """
        if not AIRFLOW_V_3_1_PLUS:
            # The web server of 2.11 has no room for the page, that of 3.0 does not know who opens it.
            return ""
        query = {"run_id": ti_key.run_id, "task_id": ti_key.task_id, "map_index": map_index_of(ti_key)}
        return f"{PAGES}/generation/{quote(ti_key.dag_id, safe='')}?{urlencode(query)}"


class KirinVideoLink(BaseOperatorLink):
    """The video, where a browser can reach it; the fragment of the link names the generation and its job."""

    @property
    def name(self) -> str:
        """The text of the button."""
        return "Kirin video"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the link: empty where there is none.

        Airflow 3 asks on the worker, whenever a run of the task ends, and keeps the answer: the operator knows its
        result then, while asking for an XCom that is not there (the task waits, or failed) would be logged as an
        error. Airflow 2 asks in its web server.

        :param operator: in Airflow 3, the one that ran
        :param ti_key: Airflow's
        """
        if AIRFLOW_V_3_0_PLUS:
            return video_link(getattr(operator, "_result", None))
        from airflow.providers.common.compat.sdk import XCom

        return video_link(XCom.get_value(ti_key=ti_key, key="return_value"))


def video_link(result: Any) -> str:
    """Return where a browser finds the video of a result.

    :param result: what :class:`.KirinGenerateVideoOperator` or :class:`.KirinDownloadOperator` returned
    """
    if isinstance(result, list):
        return next((page for uri in result if (page := _page_of(uri))), "")
    if not isinstance(result, Mapping) or not isinstance(result.get("id"), str):
        return ""
    videos = [video for video in result.get("videos") or [] if isinstance(video, Mapping)]
    places = [_page_of(uri) for uri in result.get("files") or []]
    places += [_if_lasting(video.get("url")) for video in videos]
    names = {"kirin_task": result["id"], "job": videos[0].get("job_id") if videos else None}
    fragment = "&".join(f"{name}={quote(value)}" for name, value in names.items() if isinstance(value, str))
    return next((f"{place}#{fragment}" for place in places if place), "")


def _page_of(uri: Any) -> str:
    """Return the page of a file in its storage's own console; browsers open no ``s3://`` and no ``file://``."""
    parts = urlsplit(str(uri))
    bucket, key = parts.netloc.rpartition("@")[2], parts.path.lstrip("/")
    if parts.scheme in ("s3", "s3a", "s3n"):
        return f"https://s3.console.aws.amazon.com/s3/object/{bucket}?prefix={quote(key)}"
    if parts.scheme in ("gs", "gcs"):
        return f"https://console.cloud.google.com/storage/browser/_details/{bucket}/{quote(key)}"
    return ""


def _if_lasting(url: Any) -> str:
    """Return the gateway's own link unless it is signed: whoever may see a task may not therefore see its XComs."""
    parts = urlsplit(url) if isinstance(url, str) else None
    return parts.geturl() if parts and parts.scheme in ("http", "https") and not parts.query else ""
