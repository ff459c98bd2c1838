"""A retry policy for Airflow 3.3 and later: our errors know whether another try can help, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import RetryDecision, RetryPolicy

from airflow_provider_kirin.api.retry import backoff_delay
from airflow_provider_kirin.exceptions import KirinError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class KirinRetryPolicy(RetryPolicy):
    """Retry what may pass, after a pause that fits; fail at once, with a reason, what cannot.

    Give it to a task as ``retry_policy=KirinRetryPolicy()``; ``retries`` still bounds how many there are. What is no
    error of this provider is left to the task's own settings. Without this policy the operators fail for good on their
    own where a retry cannot help; it adds the delay that the gateway asked for, and the reason in Airflow's UI.

    :param shortest: seconds that a retry is delayed at least
    """

    def __init__(self, shortest: float = 10.0) -> None:
        self.shortest = shortest

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide about one failure.

        :param exception: what the task raised
        :param try_number: Airflow's, 1 for the first
        :param max_tries: Airflow's
        :param context: Airflow's
        """
        error = exception if isinstance(exception, KirinError) else exception.__cause__
        if not isinstance(error, KirinError):
            return RetryDecision.default()
        if not error.retryable:
            return RetryDecision.fail(reason=error.message)
        delay = max(backoff_delay(error, try_number), self.shortest)
        return RetryDecision.retry(delay=timedelta(seconds=delay), reason=error.message)

    def serialize(self) -> dict[str, Any]:
        """Return what Airflow stores with the DAG."""
        return {"shortest": self.shortest}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> KirinRetryPolicy:
        """Rebuild the policy from what :meth:`serialize` returned.

        :param data: that
        """
        return cls(**data)
