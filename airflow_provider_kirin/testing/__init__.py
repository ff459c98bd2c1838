"""For the tests of your DAGs: a pytest plugin with an emulator of the Kirin gateway. How: docs/how-to/testing.md.

pytest loads this module in each of its runs where the package is installed, so nothing is imported before it is used.
Without pytest, :func:`fast_retries` and the other modules of this package work too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

#: What pytest loads with this plugin.
pytest_plugins = ["airflow_provider_kirin.testing.fixtures"]


def fast_retries(longest: float = 0.05) -> AbstractContextManager[list[float]]:
    """Shorten every wait of this package between polls, lookups and retries, in this process, while the context lasts.

    Nothing else changes: not what is retried and how often, nor timeouts, ``requests_per_second`` and Airflow's
    ``retry_delay``.

    :param longest: the most seconds that a wait may last
    :return: a context manager; it gives a list to which each wait adds the seconds that it would have lasted
    """
    from airflow_provider_kirin.api.pauses import limited_pauses

    return limited_pauses(longest)
