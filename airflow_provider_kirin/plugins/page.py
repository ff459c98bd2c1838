"""Render a generation as an HTML page, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.redaction import is_web_url

if TYPE_CHECKING:
    from airflow_provider_kirin.api.task import KirinTask, KirinVideo

#: The page contains signed links: it is not cached, sends no referrer and runs no script.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; media-src https: http:; style-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_REFRESH = 5
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1f2430; }
h1 { font-size: 1.4rem } video { max-width: 100%; max-height: 75vh; background: #000; border-radius: 8px }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem } dt { color: #5b6270 }
dd { margin: 0; overflow-wrap: anywhere } a { color: #6b3fd4 }
@media (prefers-color-scheme: dark) { body { background: #15171c; color: #e6e8ee } dt { color: #9aa1b0 }
a { color: #b79bff } }
"""


def render(kirin_task: KirinTask) -> str:
    """Return the page of a generation.

    :param kirin_task: looked up just now, because its links expire
    """
    cost = kirin_task.usage.cost if kirin_task.usage else None
    facts: dict[str, str | None] = {
        "Status": kirin_task.status,
        "Progress": None if kirin_task.progress is None else f"{kirin_task.progress:.0%}",
        "Kirin task id": kirin_task.id,
        "Job id": ", ".join(video.job_id for video in kirin_task.videos if video.job_id),
        "External task id": kirin_task.external_task_id,
        "Model": kirin_task.model,
        "Cost": None if cost is None else f"{cost:f} USD",
        "Error": f"{kirin_task.error.code} {kirin_task.error.message}".strip() if kirin_task.error else None,
    }
    videos = "".join(_video(video) for video in kirin_task.videos if is_web_url(video.url))
    refresh = "" if kirin_task.is_final else f'<meta http-equiv="refresh" content="{_REFRESH}">'
    return _page(f"Kirin generation {kirin_task.id}", f"{_facts(facts)}{videos}", head=refresh)


def render_error(submission: Mapping[str, Any], message: str) -> str:
    """Return the page of a generation that could not be looked up: the ids that Airflow has, and a link to retry.

    :param submission: the record of the submission; empty if it could not be read
    :param message: the error message
    """
    facts = {
        "Kirin task id": submission.get("kirin_task_id"),
        "External task id": submission.get("external_task_id"),
        "Connection": submission.get("kirin_conn_id"),
    }
    # An empty reference is the page itself, including its query.
    body = f'<p>{escape(message)}</p>{_facts(facts)}<p><a href="">Retry</a></p>'
    return _page(f"Kirin generation {submission.get('kirin_task_id', '')}".strip(), body)


def render_message(title: str, message: str) -> str:
    """Return a page with just a title and a message."""
    return _page(title, f"<p>{escape(message)}</p>")


def _facts(facts: Mapping[str, str | None]) -> str:
    rows = "".join(f"<dt>{name}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items() if fact)
    return f"<dl>{rows}</dl>"


def _video(video: KirinVideo) -> str:
    url = escape(video.url)
    return (
        f'<video controls preload="metadata" src="{url}"></video>'
        f'<p><a href="{url}" rel="noreferrer">Open the video</a>: this link expires; the page gets a new one.</p>'
    )


def _page(title: str, body: str, *, head: str = "") -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{head}<title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )
