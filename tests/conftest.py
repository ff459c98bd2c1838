"""For all tests: the fixtures of our own pytest plugin, no deadlines in Hypothesis, and in CI no luck either."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

pytest_plugins = ["airflow_provider_kirin.testing"]

settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

if settings().derandomize:
    # It also tries constants of the modules that are loaded: those depend on which tests this process ran before.
    providers._get_local_constants = lambda: providers._local_constants
