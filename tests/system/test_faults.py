"""Whatever dies, and whenever: one step pays for one generation, and its video arrives. docs/reference/faults.md."""

from __future__ import annotations

import pytest

from tests.support.system.campaign import REPEATS, Campaign
from tests.support.system.scenarios import SCENARIOS
from tests.support.system.stage import Scenario

pytestmark = [pytest.mark.system, pytest.mark.timeout(5400 + 1800 * REPEATS)]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_fault(scenario: Scenario, campaign: Campaign) -> None:
    wrong = [outcome for outcome in campaign.result(scenario) if outcome.wrong]
    assert not wrong
