"""For all tests: the fixtures of our own pytest plugin, and no deadlines in Hypothesis."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["airflow_provider_kirin.testing"]

settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
