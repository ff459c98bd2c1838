"""Tell Airflow's hook lineage what was read and written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseHook


def report_lineage(hook: BaseHook, *, inputs: Iterable[str] = (), outputs: Iterable[str] = ()) -> None:
    """Report assets to the hook lineage collector. Airflow collects nothing where no plugin reads it.

    :param hook: who read or wrote
    :param inputs: URIs
    :param outputs: URIs
    """
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    try:
        collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        for uri in inputs:
            collector.add_input_asset(context=hook, uri=uri)
        for uri in outputs:
            collector.add_output_asset(context=hook, uri=uri)
    except Exception as error:
        # A name that Airflow does not take (too long for its database) is no reason to lose a video.
        hook.log.warning("Airflow's hook lineage was not told: %s", type(error).__name__)
