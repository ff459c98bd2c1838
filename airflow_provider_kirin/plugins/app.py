"""The page behind the button "Kirin generation": reads a task's submission, looks up the generation and shows it.

The video's link is signed and expires, and only the connection's key can get a fresh one. So the link that Airflow
keeps leads here, and every user who may read the XComs of the DAG gets the video.

No thread and no database session is held during the lookup; :mod:`.generation_lookup` explains why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import XCom
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import select

from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.plugins.generation_lookup import TIMEOUT, GenerationLookup
from airflow_provider_kirin.plugins.page import HEADERS, render, render_error, render_message
from airflow_provider_kirin.state.keys import SUBMISSION_KEY

log = logging.getLogger(__name__)

#: Threads that read XComs: a custom XCom backend may use a bucket that hangs, and Airflow's own threads are few.
_MAX_READERS = 4


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.lookup = GenerationLookup()
    app.state.readers = ThreadPoolExecutor(_MAX_READERS, thread_name_prefix="kirin-xcom")
    yield
    app.state.readers.shutdown(wait=False, cancel_futures=True)


app = FastAPI(title="Kirin generations", openapi_url=None, lifespan=_lifespan)


# The DAG id is in the path, where every Airflow version looks for it to check permissions. The check uses a session of
# its own, which is closed before the page is rendered.
@app.get("/generation/{dag_id}", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.XCOM))])
async def generation(request: Request, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> HTMLResponse:
    """Show the generation that a task instance submitted.

    :param dag_id: the user has to be allowed to read this DAG's XComs
    """
    state, submission = request.app.state, None
    try:
        async with asyncio.timeout(TIMEOUT):
            submission = await asyncio.get_running_loop().run_in_executor(
                state.readers, _read_submission, dag_id, run_id, task_id, map_index
            )
            if submission is None:
                message = "This task has not submitted a generation yet."
                return _page(render_message("No Kirin generation", message), 404)
            kirin_task = await state.lookup.get(submission["kirin_conn_id"], submission["kirin_task_id"])
    except TimeoutError:
        failure = "Airflow could not read the task's XCom" if submission is None else "The gateway did not answer"
        return _page(render_error(submission or {}, f"{failure} within {TIMEOUT:g} s."), 504)
    except KirinError as error:
        return _page(render_error(submission or {}, error.message), 502)
    # The gateway's responses do not repeat it.
    return _page(render(replace(kirin_task, external_task_id=submission["external_task_id"])))


def _page(content: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(content, status_code=status, headers=HEADERS)


def _read_submission(dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, Any] | None:
    """Return the record of the submission, read through the deployment's XCom backend."""
    query = select(XComModel).filter_by(
        dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index, key=SUBMISSION_KEY
    )
    with create_session(scoped=False) as session:
        row = session.scalar(query)
    try:
        # After the session is closed: the backend may have to fetch the value from elsewhere.
        value = None if row is None else XCom.deserialize_value(row)
    except Exception:
        # A custom XCom backend may raise anything: a key was rotated, a bucket is unavailable.
        log.warning("The XCom %s of %s, %s, %s cannot be read.", SUBMISSION_KEY, dag_id, run_id, task_id, exc_info=True)
        return None
    required = ("kirin_task_id", "kirin_conn_id", "external_task_id")
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in required):
        return None
    return value
