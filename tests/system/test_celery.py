"""The faults in which the executor has a part, on two Celery workers and Redis; `make faults-celery` plays them all."""

from __future__ import annotations

import os

import pytest

from tests.support.system.campaign import REPEATS, Campaign
from tests.support.system.deployment import CELERY_WORKERS
from tests.support.system.scenarios import CELERY_SCENARIOS, SCENARIOS, WITH_A_PART_OF_THE_EXECUTOR
from tests.support.system.stage import Scenario

pytestmark = [pytest.mark.system, pytest.mark.timeout(5400 + 1800 * REPEATS)]

WORKERS = CELERY_WORKERS
PLAYS_ALL = os.environ.get("KIRIN_FAULT_CELERY") == "all"
PLAYED = [one for one in SCENARIOS if PLAYS_ALL or one.name in WITH_A_PART_OF_THE_EXECUTOR]


@pytest.mark.parametrize("scenario", [*PLAYED, *CELERY_SCENARIOS], ids=lambda scenario: scenario.name)
def test_fault_on_celery(scenario: Scenario, campaign: Campaign) -> None:
    wrong = [outcome for outcome in campaign.result(scenario) if outcome.wrong]
    assert not wrong
