"""The Kirin pages and the data that they show: what was ordered, how far it is, the video, and what it cost.

The pages are one script, shown inside Airflow's own frame or, to users who may see no plugins there, as a page of its
own. They are empty shells: all data comes from ``/kirin/api``, and each request there checks what the user may read.

Almost everything comes from Airflow's database. The gateway is asked for generations that run, and for a video of
which there is no file; no thread and no database session is held meanwhile, see :mod:`.generation_lookup`.

Every route and every dependency here is a coroutine, and what blocks runs in threads of our own: see :mod:`.threads`.
"""

# No `from __future__ import annotations`: FastAPI reads the routes' annotations.
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse

from airflow_provider_kirin.api.redaction import is_web_url
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.links.kirin import base_path, is_https
from airflow_provider_kirin.plugins import query
from airflow_provider_kirin.plugins.access import login_url, readable_dags, sees_plugins
from airflow_provider_kirin.plugins.batches import all_ends, batch_card, batch_matches
from airflow_provider_kirin.plugins.generation_lookup import GenerationLookup
from airflow_provider_kirin.plugins.media import (
    MEDIA_TYPES,
    StoredFile,
    asks_for_part,
    byte_range,
    is_manifest_shown,
    locate,
    media_roots,
)
from airflow_provider_kirin.plugins.records import (
    InstanceKey,
    Records,
    Stored,
    card,
    matches,
    plain_parts,
    summary,
)
from airflow_provider_kirin.plugins.threads import Threads
from airflow_provider_kirin.state.journal import MANIFEST
from airflow_provider_kirin.state.keys import BATCH_KEY, ORDER_KEY, SUBMISSION_KEY, USAGE_KEY

#: Generations on a page of the gallery.
PAGE_SIZE = 24
#: Submissions that one request searches for generations that pass the filters: the first are usually enough.
CHUNKS = (2 * PAGE_SIZE, 300, 650)
#: The records that a filter asks about.
FILTER_KEYS = {"state": (USAGE_KEY,), "model": (USAGE_KEY, ORDER_KEY), "text": (ORDER_KEY,)}
#: Bytes that are read at once of a file.
PART_BYTES = 2**20
#: Days that the plots show, and seconds for which their numbers are reused.
SUMMARY_DAYS = 30
SUMMARY_SECONDS = 60.0

_STATIC = Path(__file__).parent / "static"
_STATIC_TYPES = {"kirin.js": "text/javascript", "kirin.css": "text/css", "kirin.svg": "image/svg+xml"}
_DATA_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.lookup = GenerationLookup()
    app.state.database = Threads("Airflow's database")
    app.state.storage = Threads("The storage")
    app.state.ends = (0.0, [])
    yield
    app.state.database.close()
    app.state.storage.close()


app = FastAPI(title="Kirin generations", openapi_url=None, lifespan=_lifespan)


@app.exception_handler(HTTPException)
async def _refuse(request: Request, error: HTTPException) -> Response:
    """Send a visitor of a page who is not logged in to Airflow's login and back; answer everything else as JSON."""
    if error.status_code == 401 and not request.scope["path"].partition("/kirin/")[2].startswith("api/"):
        page = f"{base_path()}kirin/{request.url.path.partition('/kirin/')[2]}"
        return RedirectResponse(login_url(f"{page}?{request.url.query}".rstrip("?")), 303)
    return JSONResponse({"detail": error.detail}, error.status_code, headers=_DATA_HEADERS)


@app.get("/static/{name}")
async def static(name: str) -> Response:
    """Serve the script, the style and the icon, which hold no data."""
    if name not in _STATIC_TYPES:
        raise HTTPException(404, "There is no such file.")
    headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return Response(_packaged(name), media_type=_STATIC_TYPES[name], headers=headers)


@cache
def _packaged(name: str) -> bytes:
    return (_STATIC / name).read_bytes()


@app.get("/")
@app.get("/generation{path:path}")
async def page(request: Request, user: GetUserDep, path: str = "", ti: str = "") -> Response:
    """Show the gallery, or the generations of a task instance: in Airflow's frame, or to some roles without it.

    :param path: ``/dag_id/run_id/task_id/map_index``; the page reports a missing part
    :param ti: the same, as the frame's page has it
    """
    ti = ti or path.strip("/")
    if await request.app.state.database.run(sees_plugins, user):
        # One parameter: Airflow 3.1 loses the others at its login.
        return RedirectResponse(f"{base_path()}plugin/kirin" + (f"?ti={quote(ti, safe='')}" if ti else ""), 303)
    html = _packaged("page.html").decode().replace("{base}", quote(base_path(), safe="/"))
    return HTMLResponse(html, headers=_DATA_HEADERS | {"Content-Security-Policy": _page_policy()})


def _page_policy() -> str:
    """Return what the stand-alone page may load: from elsewhere only images and videos, which may be signed links.

    Their hosts are known to the gateway and the storage alone. A page by HTTPS gets nothing by HTTP.
    """
    media = "'self' https:" + ("" if is_https() else " http:")
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
        f"form-action 'none'; frame-ancestors 'self'; img-src {media}; media-src {media}"
    )


_TI = "{dag_id}/{run_id:path}/{task_id}/{map_index}"
_Key = tuple[str, str, str, int]


async def _task_instance(dag_id: str, run_id: str, task_id: str, map_index: int) -> _Key:
    """Return the task instance in a path."""
    if not (_fits(map_index) and "\0" not in dag_id + run_id + task_id):
        raise HTTPException(404, "There is no such task instance.")
    return dag_id, run_id, task_id, map_index


TiDep = Annotated[_Key, Depends(_task_instance)]


def _fits(number: int) -> bool:
    """Return whether a number from a URL fits into a column of the database."""
    return -(2**31) <= number < 2**31


async def _may_read(request: Request, user: GetUserDep, ti: TiDep) -> None:
    """Refuse a user who may not read the XComs of the DAG in the path.

    Not by Airflow's own dependency for it: that takes one of Airflow's threads, and waits in it for the database.
    """
    if not await request.app.state.database.run(readable_dags, user, ti[:1]):
        raise HTTPException(403, "Forbidden")


data = APIRouter(prefix="/api")
of_ti = APIRouter(dependencies=[Depends(_may_read)])


@data.get("/generations")
async def generations(
    request: Request,
    user: GetUserDep,
    dag: str = "",
    state: str = "",
    model: str = "",
    day: date | None = None,
    text: str = "",
    after: str = "",
) -> JSONResponse:
    """Return a page of the gallery; every parameter is a filter, but ``after``, which is a page's ``next``."""

    def find() -> dict[str, Any]:
        all_dags = query.kirin_dags()
        readable = readable_dags(user, all_dags)
        wanted = [dag_id for dag_id in readable if dag in ("", dag_id)]
        cards, more = _search(
            # Without a condition the database needs only the index of keys.
            None if len(wanted) == len(all_dags) else wanted,
            _from_cursor(after),
            day,
            {"state": state, "model": model, "text": text},
        )
        # A DAG may have submitted its first generation since they were listed.
        shown = [each for each in cards if each["dag_id"] in readable]
        return {"cards": shown, "next": more, "dags": readable}

    return _json(await request.app.state.database.run(find))


def _search(
    dag_ids: list[str] | None, after: InstanceKey | None, day: date | None, filters: dict[str, str]
) -> tuple[list[dict[str, Any]], str | None]:
    """Return cards that pass the filters, and where the next page begins."""
    roots, cards = media_roots(), list[dict[str, Any]]()
    # What is on record about a generation is read for those that pass; before that, only what the filters ask about.
    asked = [key for name, keys in FILTER_KEYS.items() if filters[name] for key in keys]
    parts = plain_parts(filters["text"])
    for chunk in CHUNKS if any(filters.values()) else [PAGE_SIZE]:
        found, after = query.submissions(
            dag_ids, after=after, state=filters["state"], parts=parts, day=day, limit=chunk
        )
        records = Records.of(query.related((row.ti for row in found if row.key == SUBMISSION_KEY), asked))
        states = query.task_states([row for row in found if row.key == BATCH_KEY])
        passed = [
            row
            for row in found
            if (
                batch_matches(row, states.get(row.ti), **filters)
                if row.key == BATCH_KEY
                else matches(row, records, **filters)
            )
        ][: PAGE_SIZE - len(cards)]
        records = Records.of(query.related(row.ti for row in passed if row.key == SUBMISSION_KEY))
        cards += [
            batch_card(row, states.get(row.ti), roots) if row.key == BATCH_KEY else card(row, records, roots)
            for row in passed
        ]
        if len(cards) == PAGE_SIZE:
            return cards, _cursor(passed[-1].ti)
        if after is None:
            break
    return cards, after and _cursor(after)


@data.get("/summary")
async def sums(request: Request, user: GetUserDep) -> JSONResponse:
    """Return costs by day and DAG, and failures by code, of what the viewer may read."""

    def add_up() -> dict[str, Any]:
        # Reading it twice at the same time is harmless.
        made_at, ends = request.app.state.ends
        if not made_at or monotonic() - made_at > SUMMARY_SECONDS:
            ends = all_ends(query.ends(SUMMARY_DAYS))
            request.app.state.ends = (monotonic(), ends)
        return summary(ends, readable_dags(user, {end.dag_id for end in ends})) | {"of_days": SUMMARY_DAYS}

    return _json(await request.app.state.database.run(add_up))


@of_ti.get(f"/generation/{_TI}")
async def generation(request: Request, ti: TiDep) -> JSONResponse:
    """Return the generations that a task instance is about, as Airflow has them on record."""

    def find() -> dict[str, Any]:
        roots, state = media_roots(), query.task_state(*ti)
        if batch := query.batch(*ti):
            return {"cards": [], "batch": batch_card(batch, state, roots), "task_state": state}
        return {"cards": [card(row, records, roots) for row, records in _of_task(ti)], "task_state": state}

    return _json(await request.app.state.database.run(find))


@of_ti.get(f"/live/{_TI}/{{kirin_task_id}}")
async def live(request: Request, ti: TiDep, kirin_task_id: str) -> JSONResponse:
    """Return a generation of a task instance as the gateway has it now."""
    submission, records = await _one(request, ti, kirin_task_id)
    now = await _look_up(request, submission)
    return _json(card(submission, records, media_roots(), now))


@of_ti.get(f"/video/{_TI}/{{kirin_task_id}}/{{index}}")
async def video(request: Request, ti: TiDep, kirin_task_id: str, index: int, source: str = "file") -> Response:
    """Stream a video from its destination, or lead to it there or at the gateway.

    :param source: ``file``, or ``gateway``
    """
    submission, records = await _one(request, ti, kirin_task_id)
    if source == "gateway":
        videos = (await _look_up(request, submission)).videos
        if not 0 <= index < len(videos) or not is_web_url(videos[index].url):
            raise HTTPException(404, "The gateway has no such video.")
        return RedirectResponse(videos[index].url, 302, headers=_DATA_HEADERS)
    uris, _ = records.files.get(kirin_task_id) or ([], None)
    return await _file(request, uris[index] if 0 <= index < len(uris) else "")


@of_ti.get(f"/image/{_TI}/{{kirin_task_id}}/{{name}}")
async def image(request: Request, ti: TiDep, kirin_task_id: str, name: str) -> Response:
    """Show an image that the generation was made from, if its file is below a root."""
    submission, records = await _one(request, ti, kirin_task_id)
    images = card(submission, records, [])["images"]
    return await _file(request, next((each["uri"] or "" for each in images if each["name"] == name), ""))


@of_ti.get(f"/manifest/{_TI}")
async def manifest(request: Request, ti: TiDep) -> Response:
    """Send the manifest of a batch, if it is below a root."""
    batch = await request.app.state.database.run(query.batch, *ti)
    uri = batch.value["manifest"] if batch else ""
    return await _file(request, uri if is_manifest_shown(uri, media_roots()) else "")


async def _file(request: Request, uri: str) -> Response:
    found = await request.app.state.storage.run(locate, uri, media_roots())
    if found is None:
        raise HTTPException(404, "There is no such file below [kirin] media_roots.")
    if isinstance(found, str):
        return RedirectResponse(found, 302, headers=_DATA_HEADERS)
    headers = _DATA_HEADERS | {"Content-Security-Policy": "default-src 'none'"}
    suffix = Path(found.path).suffix.lower()
    if suffix in MEDIA_TYPES:
        headers |= {"Content-Type": MEDIA_TYPES[suffix], "Cache-Control": "private, max-age=60"}
    else:
        headers |= {"Content-Type": "text/plain", "Content-Disposition": f'attachment; filename="{MANIFEST}"'}
    return await _stream(request, found, headers)


async def _stream(request: Request, file: StoredFile, headers: dict[str, str]) -> Response:
    """Send a file, or a part of it. Between two reads no thread is held."""
    size = await request.app.state.storage.run(file.size)
    wanted = byte_range(request.headers.get("Range"), size)
    if wanted is None:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(wanted), PART_BYTES):
            yield await request.app.state.storage.run(file.read, wanted[start : start + PART_BYTES])

    headers |= {"Accept-Ranges": "bytes", "Content-Length": str(len(wanted))}
    is_part = asks_for_part(request.headers.get("Range"))
    if is_part:
        headers |= {"Content-Range": f"bytes {wanted.start}-{wanted.stop - 1}/{size}"}
    return StreamingResponse(parts(), 206 if is_part else 200, headers)


async def _one(request: Request, ti: _Key, kirin_task_id: str) -> tuple[Stored, Records]:
    """Return one of the generations that a task instance is about."""
    for row, records in await request.app.state.database.run(_of_task, ti):
        if row.value["kirin_task_id"] == kirin_task_id:
            return row, records
    raise HTTPException(404, "This task instance has no such generation on record.")


def _of_task(ti: _Key) -> list[tuple[Stored, Records]]:
    found = query.of_task(*ti)
    records = Records.of(query.related(row.ti for row in found))
    return [(row, records) for row in found]


async def _look_up(request: Request, submission: Stored) -> Any:
    conn_id = submission.value.get("kirin_conn_id")
    if not isinstance(conn_id, str):
        raise HTTPException(404, "The record does not say with which connection the generation was submitted.")
    try:
        return await request.app.state.lookup.get(conn_id, submission.value["kirin_task_id"])
    except KirinError as error:
        raise HTTPException(502, error.message) from error


def _json(content: Any) -> JSONResponse:
    return JSONResponse(content, headers=_DATA_HEADERS)


def _cursor(instance: InstanceKey) -> str:
    return f"{instance.dag_run_id}.{instance.map_index}.{instance.task_id}"


def _from_cursor(cursor: str) -> InstanceKey | None:
    run, _, rest = cursor.partition(".")
    index, _, task_id = rest.partition(".")
    try:
        instance = InstanceKey(int(run), task_id, int(index))
    except ValueError:
        return None
    return instance if _fits(instance.dag_run_id) and _fits(instance.map_index) and "\0" not in task_id else None


data.include_router(of_ti)
app.include_router(data)
