"""The keys of what is kept in Airflow."""

from __future__ import annotations

import pytest

from airflow_provider_kirin.state.keys import (
    BATCH_STATE_KEY,
    LATEST_KEY,
    STATE_PREFIX,
    USAGE_STATE_KEY,
    submission_state_key,
)


@pytest.mark.parametrize("external_task_id", ["latest", "usage", "batch", "submission:latest", ""])
def test_no_external_task_id_of_a_user_meets_another_key(external_task_id: str) -> None:
    key = submission_state_key(external_task_id)
    assert key not in (LATEST_KEY, USAGE_STATE_KEY, BATCH_STATE_KEY)
    # `kirin costs` finds all of them by it.
    assert key.startswith(STATE_PREFIX)
