"""A retry policy for Airflow 3.3 and later, based on whether an error is retryable, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.exceptions import AirflowOptionalProviderFeatureException

from airflow_provider_kirin.api.pauses import pause_length
from airflow_provider_kirin.api.retry import backoff_delay
from airflow_provider_kirin.exceptions import KirinError

try:
    from airflow.sdk import RetryDecision, RetryPolicy
except ImportError as error:
    raise AirflowOptionalProviderFeatureException(
        f"KirinRetryPolicy needs the retry policies of Airflow 3.3 or later; this is Airflow {airflow_version}. Leave "
        "retry_policy out: the operators fail without a retry if retrying cannot help, and retries and retry_delay "
        "decide about the rest."
    ) from error

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class KirinRetryPolicy(RetryPolicy):
    """Retry temporary errors after a suitable delay; fail on permanent ones immediately, with a reason.

    Give it to a task as ``retry_policy=KirinRetryPolicy()``; ``retries`` still limits the number of retries. Errors of
    other libraries are left to the task's own settings. Without this policy the operators already fail without a retry
    if retrying cannot help; it adds the delay that the gateway requested, and the reason in Airflow's UI.

    :param shortest: the minimum delay of a retry in seconds
    """

    def __init__(self, shortest: float = 10.0) -> None:
        self.shortest = shortest

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide about one failure.

        :param exception: the exception that the task raised, or Airflow's wrapper around ours
        :param try_number: 1 for the first try
        :param max_tries: not used: Airflow itself stops at the limit
        :param context: not used
        """
        error = exception if isinstance(exception, KirinError) else exception.__cause__
        if not isinstance(error, KirinError):
            return RetryDecision.default()
        if not error.retryable:
            return RetryDecision.fail(reason=error.message)
        delay = pause_length(max(backoff_delay(error, try_number), self.shortest))
        return RetryDecision.retry(delay=timedelta(seconds=delay), reason=error.message)

    def serialize(self) -> dict[str, Any]:
        """Return what Airflow stores with the DAG."""
        return {"shortest": self.shortest}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> KirinRetryPolicy:
        """Rebuild the policy from the result of :meth:`serialize`."""
        return cls(**data)
