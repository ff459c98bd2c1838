"""The plugin of Airflow's API server: the entry "Kirin", the page behind each task's link, the receiver of callbacks.

The entry is one of ``react_apps``, not of ``external_views``: an external view is a sandboxed iframe, whose links to a
DAG, a run or a log could not leave it, and which has neither the page's query nor its theme. A React app is a component
in Airflow's own page, and needs no build: Airflow imports the script and takes the component that it leaves under the
entry's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_kirin import __version__
from airflow_provider_kirin.api.callback_token import CALLBACK_PATH
from airflow_provider_kirin.links.kirin import PAGES, base_path, has_pages


class _Lazy:
    """A list that is built on access: every Airflow process loads the plugin, but only one needs FastAPI.

    :param build: returns the list
    """

    def __init__(self, build: Callable[[], list[dict[str, Any]]]) -> None:
        self._build = build

    def __get__(self, instance: object, owner: type) -> list[dict[str, Any]]:
        return self._build()


def _apps() -> list[dict[str, Any]]:
    apps = []
    if has_pages():
        from airflow_provider_kirin.plugins.app import app

        apps.append({"app": app, "url_prefix": f"/{PAGES}", "name": "Kirin generations"})
    if AIRFLOW_V_3_1_PLUS:
        from airflow_provider_kirin.plugins import callback

        apps.append({"app": callback.app, "url_prefix": CALLBACK_PATH, "name": "Kirin callbacks"})
    return apps


def _entries() -> list[dict[str, Any]]:
    if not has_pages():
        return []
    # An absolute path: Airflow 3.1 and 3.2 import the URL as it is, 3.3 resolves it.
    files = f"{base_path()}{PAGES}/static"
    entry = {
        "name": "Kirin",
        "bundle_url": f"{files}/kirin.js?v={__version__}",
        "destination": "nav",
        "url_route": "kirin",
        "icon": f"{files}/kirin.svg",
    }
    return [entry]


class KirinGenerationPlugin(AirflowPlugin):
    """The Kirin pages, and the receiver of callbacks, on Airflow 3.1 and later."""

    name = "kirin_generation"
    fastapi_apps = _Lazy(_apps)
    react_apps = _Lazy(_entries)
