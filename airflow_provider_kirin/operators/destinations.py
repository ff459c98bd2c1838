"""The destination that an operator's rendered arguments describe: of a step, and of a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.download.destination import Destination
from airflow_provider_kirin.download.filenames import safe_part
from airflow_provider_kirin.download.storage import to_str
from airflow_provider_kirin.exceptions import KirinDestinationError
from airflow_provider_kirin.utils.task_instance import map_index_of, where_of

if TYPE_CHECKING:
    from airflow_provider_kirin.operators.specs import FilesSpec

#: Names the files in the folder of a batch, unless the user names them.
BATCH_TEMPLATE = "{key}-{index}.mp4"
#: A template without any of these would give all rows the same file.
_NAMES_A_ROW = ("{key}", "{kirin_task_id}", "{external_task_id}")


def step_destination(files: FilesSpec, ti: Any) -> Destination:
    """Return where the videos of a step go.

    :param files: the rendered arguments
    :param ti: the running task instance
    :raises KirinDestinationError: ``destination`` is not a path, or rendered to nothing
    """
    if empty := files.rendering.empty_arguments("destination", "filename_template"):
        raise KirinDestinationError(" ".join(map(str, empty)))
    path = to_str(files.destination)
    if not isinstance(path, str):
        raise KirinDestinationError(
            f"destination = {short_repr(path)} must be a string, a Path or an ObjectStoragePath. "
            f"Check what its template or upstream task returns{files.rendering.native_rendering('destination')}."
        )
    return Destination(
        path,
        files.filename_template,
        where_of(ti),
        files.overwrite,
        files.max_bytes,
        is_first_try=ti.try_number <= 1,
        sidecar=files.sidecar,
        poster=files.poster,
    )


def batch_destination(files: FilesSpec, ti: Any) -> tuple[Destination, str]:
    """Return where the videos of a batch go, and the folder of its manifest and journal.

    :param files: the rendered arguments
    :param ti: the running task instance
    :raises KirinDestinationError: ``destination`` is not a folder, or rows would share a file
    """
    destination = step_destination(files, ti)
    if destination.is_file:
        raise KirinDestinationError(
            f"destination = {short_repr(destination.path, 120)} must be a folder: a batch has a file for each row."
        )
    template = destination.template
    if template is not None and not any(name in template for name in _NAMES_A_ROW):
        raise KirinDestinationError(
            f"filename_template = {short_repr(template, 120)} would give all rows the same file. It must have one of "
            f"{', '.join(_NAMES_A_ROW)}. The default is {BATCH_TEMPLATE}, in the folder of the batch."
        )
    map_index = map_index_of(ti)
    parts = [ti.dag_id, ti.run_id, ti.task_id, *([str(map_index)] if map_index >= 0 else [])]
    folder = "/".join([destination.path.rstrip("/"), *map(safe_part, parts)])
    destination = replace(
        destination,
        path=folder if template is None else destination.path,
        template=template or BATCH_TEMPLATE,
        step={**destination.step, "key": ""},
        # A batch may have written any of its files in an earlier wave.
        is_first_try=False,
    )
    return destination, folder
