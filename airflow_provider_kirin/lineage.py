"""The provenance of a video: for Asset events, OpenLineage and the record of a submission."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from airflow_provider_kirin.api.images.sources import without_secrets
from airflow_provider_kirin.download.storage import URI_PATH, without_connection

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.api.video_file import VideoFile


def inputs_of(prepared: PreparedPayload) -> dict[str, Any]:
    """Return the inputs of a generation in a form that may be shown: without prompt, image data or URL query.

    :param prepared: the payload to be submitted
    :return: ``prompt_digest``, the SHA-256 of the prompt in UTF-8, and ``images``, the URIs of those that have one
    """
    prompt = prepared.params.get("prompt")
    return {
        "prompt_digest": f"sha256:{sha256(prompt.encode()).hexdigest()}" if isinstance(prompt, str) else None,
        "images": [image.uri for image in prepared.images.values() if image.uri],
    }


@dataclass(frozen=True)
class Provenance:
    """The inputs and outputs of a generation.

    :param kirin_task_id: the generation
    :param inputs: the images' URIs
    :param outputs: the videos' URIs: of the files, with the Airflow connection that opens them
        (``s3://conn_id@bucket/key``), or at Kirin
    :param cost: US dollars as a string, None if unknown
    :param prompt_digest: see :func:`inputs_of`; None if unknown
    :param facts: what is known of each video that was stored, by its URI
    """

    kirin_task_id: str
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    cost: str | None = None
    prompt_digest: str | None = None
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, kirin_task: KirinTask, files: Iterable[VideoFile], inputs: Mapping[str, Any]) -> Provenance:
        """Return the provenance of a finished generation.

        :param kirin_task: the finished generation
        :param files: the videos that were stored
        :param inputs: the result of :func:`inputs_of`; empty if unknown
        """
        facts = {file.uri: file.facts() for file in files}
        uris = list(facts) or [video.url for video in kirin_task.videos]
        cost = kirin_task.usage.cost if kirin_task.usage else None
        return cls(
            kirin_task_id=kirin_task.id,
            inputs=inputs.get("images") or (),
            outputs=[openable for uri in uris if (openable := _openable(uri))],
            cost=None if cost is None else format(cost, "f"),
            prompt_digest=inputs.get("prompt_digest"),
            facts={openable: facts[uri] for uri in facts if (openable := _openable(uri))},
        )

    def as_extra(self, uri: str | None) -> dict[str, Any]:
        """Return the extra of an Asset event: hashable values, as Airflow before 3.1 needs them for an alias.

        :param uri: the video that the event is about
        """
        return {
            "uri": uri,
            "kirin_task_id": self.kirin_task_id,
            "cost": self.cost,
            "prompt_digest": self.prompt_digest,
            **self.facts.get(uri or "", {}),
        }

    def as_event_extra(self) -> dict[str, Any]:
        """Return the extra of the one Asset event of a task: all videos, and the first one by itself."""
        details = {"file_details": [{"uri": uri, **facts} for uri, facts in self.facts.items()]} if self.facts else {}
        return self.as_extra(next(iter(self.outputs), None)) | {"uris": list(self.outputs)} | details

    def as_openlineage(self) -> OperatorLineage[Any, Any]:
        """Return the datasets and the run facet of an OpenLineage event."""
        from airflow.providers.common.compat.openlineage.facet import Dataset, ExternalQueryRunFacet
        from airflow.providers.openlineage.extractors import OperatorLineage

        return OperatorLineage(
            inputs=[Dataset(*dataset_name(uri)) for uri in self.inputs],
            outputs=[Dataset(*dataset_name(uri)) for uri in self.outputs],
            run_facets={"externalQuery": ExternalQueryRunFacet(externalQueryId=self.kirin_task_id, source="kirin")},
        )


def dataset_name(uri: str) -> tuple[str, str]:
    """Return OpenLineage's namespace and name for a URI, by OpenLineage's naming rules.

    :param uri: without secrets; a connection in it is not part of the name
    """
    scheme, _, rest = without_connection(uri).partition("://")
    host, _, path = rest.partition("/")
    if scheme == "file":
        return "file", unquote(f"/{path}")
    return f"{scheme.lower()}://{host}", path.lstrip("/") or "/"


def _openable(uri: str) -> str | None:
    """Return a URI without secrets, and with the Airflow connection that ObjectStoragePath needs to open it."""
    scheme, _, rest = uri.partition("://")
    if scheme.lower() in ("http", "https"):
        return without_secrets(uri)
    # A connection id never contains a colon.
    has_password = ":" in rest.partition("/")[0].rpartition("@")[0]
    return without_connection(uri) if has_password else uri


def add_asset_events(context: Context, outlets: Iterable[Any], provenance: Provenance, log: Any) -> None:
    """Set the extra of a task's Asset events; an alias gets one event for each video, under the video's URI.

    :param context: the running task's context
    :param outlets: the operator's outlets
    :param provenance: the provenance of the generation
    :param log: the operator's logger
    """
    videos = [(uri, provenance.as_extra(uri)) for uri in provenance.outputs]
    set_outlet_extras(context, outlets, provenance.as_event_extra(), videos, log)


def set_outlet_extras(
    context: Context,
    outlets: Iterable[Any],
    extra: Mapping[str, Any],
    files: Sequence[tuple[str, dict[str, Any]]],
    log: Any,
) -> None:
    """Set the extra of a task's Asset events.

    :param context: the running task's context
    :param outlets: the operator's outlets
    :param extra: of an asset's event
    :param files: URI and extra of each event of an alias; the event's asset is the file, whichever connection opens it
    :param log: the operator's logger
    """
    from airflow.providers.common.compat.sdk import Asset, AssetAlias

    events = context["outlet_events"]
    for outlet in outlets:
        try:
            if isinstance(outlet, AssetAlias):
                for uri, own in files:
                    # On MySQL asset names are ASCII.
                    name = quote(without_connection(uri), safe=f"%{URI_PATH}")
                    events[outlet].add(Asset(uri=name), extra=own)
            else:
                events[outlet].extra.update(extra)
        except (TypeError, ValueError) as error:
            # What was paid is stored: a URI that Airflow rejects (1,500 characters, say) must not fail the task.
            log.warning("No Asset event for %s: %s", outlet, error)


class OpenLineageMixin:
    """An operator that reports its inputs and outputs to OpenLineage."""

    _provenance: Provenance | None = None

    def get_openlineage_facets_on_complete(self, _ti: Any) -> OperatorLineage[Any, Any] | None:
        """Return the datasets and facets; OpenLineage's listener calls this in the process that ran the task."""
        return None if self._provenance is None else self._provenance.as_openlineage()
