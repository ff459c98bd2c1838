"""Who may see what: decided by Airflow's auth manager alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity, DagDetails
from airflow.models.dag import DagModel


def readable_dags(user: Any, dag_ids: Iterable[str]) -> list[str]:
    """Return those of the DAGs whose XComs a user may read.

    :param user: as the auth manager knows it
    :param dag_ids: DAG ids
    """
    wanted = sorted(dag_ids)
    # Airflow 3.1 has no teams.
    find_teams = getattr(DagModel, "get_dag_id_to_team_name_mapping", None)
    teams = find_teams(wanted) if find_teams and wanted else {}
    manager = get_auth_manager()

    def may_read(dag_id: str) -> bool:
        team = {"team_name": teams[dag_id]} if teams.get(dag_id) else {}
        return manager.is_authorized_dag(
            method="GET", access_entity=DagAccessEntity.XCOM, details=DagDetails(id=dag_id, **team), user=user
        )

    return [dag_id for dag_id in wanted if may_read(dag_id)]


def sees_plugins(user: Any) -> bool:
    """Return whether Airflow's own frame shows plugins to a user; FAB's roles Viewer and User get none."""
    return get_auth_manager().is_authorized_view(access_view=AccessView.PLUGINS, user=user)


def login_url(page: str) -> str:
    """Return the URL of Airflow's login, which leads back.

    :param page: the URL of the page that needs a user
    """
    url = get_auth_manager().get_url_login()
    return f"{url}{'&' if urlsplit(url).query else '?'}next={quote(page, safe='')}"
