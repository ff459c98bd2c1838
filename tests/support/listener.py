"""A plugin's listener, as OpenLineage's."""

from __future__ import annotations

from airflow.listeners import hookimpl


@hookimpl
def on_task_instance_running(previous_state, task_instance):
    pass


@hookimpl
def on_task_instance_success(previous_state, task_instance):
    pass
