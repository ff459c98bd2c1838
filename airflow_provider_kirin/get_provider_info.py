"""The provider info that Airflow discovers: connection type and form, operators, sensors, triggers, commands."""

from __future__ import annotations

from typing import Any

from airflow_provider_kirin import __version__

_INTEGRATION = "Kirin"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, valid against Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-kirin",
        "name": "Kirin",
        "description": "Kirin video generation: an image and a prompt become a short video.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://doc.vtrix.ai/docs/api/vtrix/kirin-v1-6-i2v",
                "logo": "/integration-logos/kirin.svg",
                "how-to-guide": ["/docs/tutorial/index.md", "/docs/how-to/index.md"],
                "tags": ["service", "generative-ai"],
            }
        ],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["airflow_provider_kirin.operators.kirin", "airflow_provider_kirin.operators.batch"],
            }
        ],
        "sensors": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_kirin.sensors.kirin"]}],
        "hooks": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["airflow_provider_kirin.hooks.kirin", "airflow_provider_kirin.hooks.kirin_async"],
            }
        ],
        "triggers": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_kirin.triggers.kirin"]}],
        "connection-types": [_connection_type()],
        # `airflow kirin ...`: Airflow 3.3.2 reads it, 2.11 does not.
        "cli": ["airflow_provider_kirin.cli.definition.get_kirin_cli_commands"],
        "extra-links": [
            "airflow_provider_kirin.links.kirin.KirinGenerationLink",
            "airflow_provider_kirin.links.kirin.KirinVideoLink",
        ],
        "config": _config(),
        "task-decorators": [{"name": "kirin", "class-name": "airflow_provider_kirin.decorators.kirin.kirin_task"}],
    }


def _config() -> dict[str, Any]:
    return {
        "kirin": {
            "description": "What Airflow's API server shows of Kirin generations.",
            "options": {
                "ui": {
                    "description": "Whether Airflow's UI has the Kirin pages.",
                    "version_added": None,
                    "type": "boolean",
                    "example": None,
                    "default": "True",
                },
                "media_roots": {
                    "description": "Folders, separated by commas, whose images and videos the Kirin pages may show to "
                    "everyone who may read the XComs of the DAG that names them. Paths of the API server, or URIs with "
                    "the Airflow connection that reads them. Everything else is shown from the gateway only.",
                    "version_added": None,
                    "type": "string",
                    "example": "/data/videos,s3://aws_default@bucket/videos",
                    "default": "",
                },
            },
        },
    }


def _connection_type() -> dict[str, Any]:
    return {
        "connection-type": "kirin",
        "hook-name": "Kirin",
        "hook-class-name": "airflow_provider_kirin.hooks.kirin.KirinHook",
        "ui-field-behaviour": {
            "hidden-fields": ["login", "schema", "port"],
            "relabeling": {"password": "API Key", "host": "Host (base URL)"},
            "placeholders": {
                "host": "https://cloud.vtrix.ai",
                "password": "sa-...",
                "extra": '{"timeout": 60, "verify": true, "proxies": {}, "requests_per_second": 10, '
                '"allow_private_hosts": false, "prices": {}, "namespace": "", "callback_base_url": ""}',
            },
        },
        "conn-fields": {
            "timeout": {
                "label": "Timeout (seconds)",
                "description": "To connect, and to wait for the next byte of a response. Empty: 60.",
                "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
            },
            "verify": {
                "label": "Verify TLS",
                "description": "true, false, or the path of a CA bundle. Empty: true.",
                "schema": {"type": ["string", "null"]},
            },
            "proxies": {
                "label": "Proxies",
                "description": 'Scheme to proxy URL, such as {"https": "http://proxy:3128"}.',
                "schema": {"type": ["object", "null"]},
            },
            "requests_per_second": {
                "label": "Requests per second",
                "description": "Limit for one triggerer, or for one task on a worker. Empty: no limit.",
                "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
            },
            "allow_private_hosts": {
                "label": "Private hosts of videos",
                "description": "Comma-separated hosts and networks that may serve videos besides public ones.",
                "schema": {"type": ["string", "null"]},
            },
            "prices": {
                "label": "Prices (US dollars)",
                "description": 'For max_cost_usd: {"kirin_v1_6_i2v/std/5": "0.28", "kirin_v1_6_i2v": "0.98"}.',
                "schema": {"type": ["object", "null"]},
            },
            "namespace": {
                "label": "Namespace",
                "description": "A different value for each deployment, if they share an account, DAG ids and run ids.",
                "schema": {"type": ["string", "null"]},
            },
            "callback_base_url": {
                "label": "Callback base URL",
                "description": "Where the gateway reaches this Airflow's API server. Empty: no callbacks.",
                "schema": {"type": ["string", "null"]},
            },
        },
    }
