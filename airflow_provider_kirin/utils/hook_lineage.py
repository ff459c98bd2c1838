"""Report inputs and outputs to Airflow's hook lineage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseHook


def report_lineage(hook: BaseHook, *, inputs: Iterable[str] = (), outputs: Iterable[str] = ()) -> None:
    """Report assets to the hook lineage collector, which ignores them unless a plugin reads it.

    :param hook: the hook that read or wrote them
    :param inputs: URIs that were read
    :param outputs: URIs that were written
    """
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    try:
        collector = get_hook_lineage_collector()
        for uri in inputs:
            collector.add_input_asset(context=hook, uri=uri)
        for uri in outputs:
            collector.add_output_asset(context=hook, uri=uri)
    except Exception as error:
        # A URI that Airflow rejects (too long for its database) must not lose a video.
        hook.log.warning("Could not report to Airflow's hook lineage: %s", type(error).__name__)
