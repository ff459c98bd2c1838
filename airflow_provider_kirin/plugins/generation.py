"""The plugin that shows a step's generation in Airflow's web server."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_kirin.api.callback_token import CALLBACK_PATH
from airflow_provider_kirin.links.kirin import PAGES


class _LazyApps:
    """The list of apps, built on access: every Airflow process loads the plugin, but only one needs FastAPI."""

    def __get__(self, instance: object, owner: type) -> list[dict[str, Any]]:
        if not AIRFLOW_V_3_1_PLUS:
            # The page has no link there, and a browser following one has no credentials that Airflow 3.0 accepts.
            return []
        from airflow_provider_kirin.plugins import callback
        from airflow_provider_kirin.plugins.app import app

        return [
            {"app": app, "url_prefix": f"/{PAGES}", "name": "Kirin generations"},
            {"app": callback.app, "url_prefix": CALLBACK_PATH, "name": "Kirin callbacks"},
        ]


class KirinGenerationPlugin(AirflowPlugin):
    """The page behind the button "Kirin generation", and the receiver of callbacks, on Airflow 3.1 and later."""

    name = "kirin_generation"
    fastapi_apps = _LazyApps()
