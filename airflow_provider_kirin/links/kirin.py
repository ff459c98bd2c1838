"""The extra links of a task instance in Airflow's UI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.configuration import conf
from airflow.providers.common.compat.sdk import BaseOperatorLink
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

from airflow_provider_kirin.api.redaction import is_web_url
from airflow_provider_kirin.download.storage import without_connection
from airflow_provider_kirin.utils.task_instance import map_index_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


#: The prefix of the pages that :mod:`airflow_provider_kirin.plugins` adds to Airflow's web server.
PAGES = "kirin"


def has_pages() -> bool:
    """Return whether Airflow's UI has the Kirin pages: the setting ``[kirin] ui``.

    The web server of Airflow 2.11 cannot host them, and that of 3.0 cannot authenticate a browser that follows a link.
    """
    return AIRFLOW_V_3_1_PLUS and conf.getboolean("kirin", "ui", fallback=True)


def base_path() -> str:
    """Return the path of Airflow's UI, with a slash at its end: ``/``, or ``/airflow/``."""
    path = urlsplit(conf.get("api", "base_url", fallback="") or "").path.strip("/")
    return f"/{path}/" if path else "/"


def is_https() -> bool:
    """Return whether browsers reach Airflow's UI by HTTPS."""
    return (conf.get("api", "base_url", fallback="") or "").lower().startswith("https:")


class KirinGenerationLink(BaseOperatorLink):
    """The page of the task's generations: the order, the progress, the video and the cost. Airflow 3.1 and later."""

    @property
    def name(self) -> str:
        """The text of the button."""
        return "Kirin generation"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the link, relative to the UI's base URL; empty without the pages."""
        if not has_pages():
            return ""
        ids = (ti_key.dag_id, ti_key.run_id, ti_key.task_id, str(map_index_of(ti_key)))
        return f"{PAGES}/generation/{'/'.join(quote(part, safe='') for part in ids)}"


class KirinVideoLink(BaseOperatorLink):
    """The video, if a browser can open it; the link's fragment names the generation and its job."""

    @property
    def name(self) -> str:
        """The text of the button."""
        return "Kirin video"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the link; empty if there is none.

        Airflow 3 calls this on the worker whenever a run of the task ends, and stores the link. The operator has its
        result then, whereas reading an XCom that does not exist (the task deferred, or failed) would be logged as an
        error. Airflow 2 calls it in its web server.

        :param operator: in Airflow 3, the instance that ran
        :param ti_key: the task instance
        """
        if AIRFLOW_V_3_0_PLUS:
            return video_link(getattr(operator, "_result", None))
        from airflow.providers.common.compat.sdk import XCom

        return video_link(XCom.get_value(ti_key=ti_key, key="return_value"))


def video_link(result: Any) -> str:
    """Return a link that opens the video of a result in a browser.

    :param result: the return value of :class:`.KirinGenerateVideoOperator` or :class:`.KirinDownloadOperator`
    """
    if isinstance(result, list):
        return next((page for uri in result if (page := _console_page(uri))), "")
    if not isinstance(result, Mapping) or not isinstance(result.get("id"), str):
        return ""
    videos = [video for video in result.get("videos") or [] if isinstance(video, Mapping)]
    links = [_console_page(uri) for uri in result.get("files") or []]
    links += [_unsigned(video.get("url")) for video in videos]
    ids = {"kirin_task": result["id"], "job": videos[0].get("job_id") if videos else None}
    fragment = "&".join(f"{name}={quote(value)}" for name, value in ids.items() if isinstance(value, str))
    return next((f"{link}#{fragment}" for link in links if link), "")


def _console_page(uri: Any) -> str:
    """Return the page of a file in its storage's web console; browsers cannot open ``s3://`` or ``file://``."""
    scheme, _, rest = without_connection(str(uri)).partition("://")
    bucket, _, key = rest.partition("/")
    if scheme in ("s3", "s3a", "s3n"):
        return f"https://s3.console.aws.amazon.com/s3/object/{bucket}?prefix={quote(key)}"
    if scheme in ("gs", "gcs"):
        return f"https://console.cloud.google.com/storage/browser/_details/{bucket}/{quote(key)}"
    return ""


def _unsigned(url: Any) -> str:
    """Return the gateway's own link unless it is signed: a user who may see a task may not be allowed its XComs."""
    return str(url) if is_web_url(url) and not urlsplit(url).query else ""
