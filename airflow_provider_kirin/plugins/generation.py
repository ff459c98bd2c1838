"""The plugin that shows a step's generation in Airflow's web server."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_kirin.links.kirin import PAGES


class _InTheWebServerOnly:
    """The list of apps, made where it is read: each Airflow process loads the plugin, and only one needs FastAPI."""

    def __get__(self, instance: object, owner: type) -> list[dict[str, Any]]:
        from airflow_provider_kirin.plugins.app import app

        return [{"app": app, "url_prefix": f"/{PAGES}", "name": "Kirin generations"}]


class KirinGenerationPlugin(AirflowPlugin):
    """The page behind the button "Kirin generation", on Airflow 3."""

    name = "kirin_generation"
    fastapi_apps = _InTheWebServerOnly()
