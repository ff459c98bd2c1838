"""Answers for the button "Kirin generation": looks up what a task bought, asks the gateway, shows it.

The video's link is signed and expires, and only the connection's key gets a fresh one. So the link that Airflow keeps
leads here, and whoever may read the XComs of the DAG gets the video.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import XCom
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse

from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.links.kirin import XCOM_KEY
from airflow_provider_kirin.plugins.page import HEADERS, render, render_message

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)
app = FastAPI(title="Kirin generations", openapi_url=None)


# The DAG is in the path: every Airflow looks for it there when it checks who may read.
@app.get("/generation/{dag_id}", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.XCOM))])
def generation(session: SessionDep, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> HTMLResponse:
    """Show the generation that a task instance bought.

    :param session: Airflow's database
    :param dag_id: Airflow's; whoever asks has to be allowed to read this DAG's XComs
    :param run_id: Airflow's
    :param task_id: Airflow's
    :param map_index: Airflow's
    """
    bought = _bought(session, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
    if bought is None:
        message = "This task has not bought a generation, or has not yet."
        return HTMLResponse(render_message("No Kirin generation", message), status_code=404, headers=HEADERS)
    try:
        with closing(KirinHook(bought["kirin_conn_id"])) as hook:
            kirin_task = hook.get_task(bought["kirin_task_id"], patience=0)
    except KirinError as error:
        content = render_message(f"Kirin generation {bought['kirin_task_id']}", error.message)
        return HTMLResponse(content, status_code=502, headers=HEADERS)
    # The gateway's replies do not repeat it.
    return HTMLResponse(render(replace(kirin_task, external_task_id=bought["external_task_id"])), headers=HEADERS)


def _bought(session: Session, *, dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, str] | None:
    """Return the record of the submission, read as a custom XCom backend wrote it."""
    query = XComModel.get_many(key=XCOM_KEY, dag_ids=dag_id, run_id=run_id, task_ids=task_id, map_indexes=map_index)
    row = session.scalar(query)
    try:
        value = None if row is None else XCom.deserialize_value(row)
    except Exception:
        # Whatever a custom XCom backend may raise: a key that was replaced, a bucket that is away.
        log.warning("The XCom %s of %s, %s, %s cannot be read.", XCOM_KEY, dag_id, run_id, task_id, exc_info=True)
        return None
    needed = ("kirin_task_id", "kirin_conn_id", "external_task_id")
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in needed):
        return None
    return value
