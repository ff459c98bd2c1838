"""One tree of errors, one class for each thing a DAG author would handle differently.

::

    KirinError                     anything this provider raises
    ├── KirinConfigError           the connection is unusable: no key, malformed host
    ├── KirinPayloadError          the payload or an image breaks a rule; nothing was sent
    ├── KirinTableError            rows of a batch's table cannot be used; nothing more is sent
    ├── KirinBatchError            rows of a batch have no video; names them by reason
    ├── KirinBudgetError           it would exceed the DAG run's max_cost_usd, or its cost is unknown; nothing was sent
    ├── KirinIdError               not a valid Kirin task id; no request was made
    ├── KirinDestinationError      the video cannot be stored at its destination
    ├── KirinNetworkError          no response: refused, cut, timed out  (``.sent``: whether a request may have left)
    ├── KirinResponseError         a response that cannot be parsed; for a POST the outcome is unknown
    ├── KirinUnknownSubmitError    a submission may have been accepted; names the external task id to look for
    ├── KirinLostTaskError         the gateway no longer knows a recorded generation; nothing was submitted
    ├── KirinTimeoutError          the wait timed out; the generation may continue at Kirin
    ├── KirinUnfinishedError       a result was requested before the generation ended
    └── KirinAPIError              the gateway or the model returned an error
        ├── KirinInputError        invalid input: the model's user-input codes, HTTP 400/413/422
        ├── KirinAuthError         HTTP 401/403, or the upstream's authentication code
        ├── KirinCreditError       out of credit: HTTP 402, or 403 with a message about the balance
        ├── KirinNotFoundError     HTTP 404: no such generation for this key, or a wrong path
        ├── KirinConflictError     HTTP 409: the external task id is already in use
        ├── KirinRateLimitError    HTTP 429: nothing was accepted; try again later
        │   └── KirinCapacityError the account is full: no generation more can run at once; nothing was accepted
        ├── KirinUnavailableError  HTTP 408 and 5xx, provider unavailable
        └── KirinTaskFailedError   the generation itself failed
            └── KirinNoVideoError  it completed without a video

Each error states whether another try can help (:attr:`KirinError.retryable`). Its class decides; for errors of the
gateway the tables of :mod:`airflow_provider_kirin.api.errors`; for a generation that a wait or a download does not find
:func:`airflow_provider_kirin.api.lookup.settle_not_found`. None of them ever contains an API key, image bytes or the
query string of a signed URL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any


class KirinError(Exception):
    """Base of every error that this provider raises."""

    #: Whether the same call may succeed later without any change by the user.
    retryable: bool = False

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        if retryable is not None:
            self.retryable = retryable

    def append(self, sentence: str) -> None:
        """Add a sentence to the message."""
        self.message = f"{self.message} {sentence}"
        self.args = (self.message,)


class KirinConfigError(KirinError):
    """The connection is misconfigured: no API key, malformed host, invalid extra.

    :param http_status: the status of a redirect response; None if there was no response
    """

    def __init__(self, message: str, *, http_status: int | None = None, retryable: bool | None = None) -> None:
        super().__init__(message, retryable=retryable)
        self.http_status = http_status


@dataclass(frozen=True)
class Problem:
    """One problem of a payload.

    :param field: the parameter: ``prompt``, ``watermark_info.enabled``
    :param value: the value, shortened and safe to show; never image bytes, never a whole prompt
    :param rule: what is allowed
    :param remedy: how to fix it
    """

    field: str
    value: str
    rule: str
    remedy: str

    def __str__(self) -> str:
        end = "" if self.remedy.endswith((".", "?")) else "."
        return f"{self.field} = {self.value}: {self.rule}. {self.remedy}{end}"


class KirinPayloadError(KirinError, ValueError):
    """The payload breaks at least one rule. This try sent nothing and spent nothing.

    :param problems: all problems, not only the first
    :param model: the model whose rules were broken
    :param earlier: what an earlier try of the step submitted, or may have submitted; empty if there is nothing
    """

    def __init__(self, problems: Sequence[Problem], *, model: str, earlier: str = "") -> None:
        self.problems = tuple(problems)
        self.model = model
        self.earlier = earlier
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        lines = "".join(f"\n  - {problem}" for problem in problems)
        what = "nothing was sent by this try" if earlier else "nothing was sent, nothing was spent"
        super().__init__(f"The payload for {model} has {count}; {what}:{lines}" + (earlier and f"\n{earlier}"))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with required keyword-only arguments cannot be pickled by default, and Airflow pickles some.
        return partial(KirinPayloadError, model=self.model, earlier=self.earlier), (self.problems,)


class KirinTableError(KirinError, ValueError):
    """The table of a batch cannot be used: rows that break a rule, or a file that cannot be read.

    No more rows are sent.
    """


class KirinBatchError(KirinError):
    """Rows of a batch ended without a video, more than ``max_failed_rows`` allows. All others are saved.

    A retry resumes what can still succeed; a clear also submits the failed rows again.
    """


class KirinBudgetError(KirinError):
    """The DAG run's ``max_cost_usd`` does not cover this generation, which was not submitted and costs nothing.

    :param budget: the limit in US dollars, a string like all of these amounts
    :param spent: what the run has spent or reserved
    :param estimate: the expected cost of this generation; None if unknown
    :param source: where the estimate comes from
    """

    def __init__(
        self,
        message: str,
        *,
        budget: str | None = None,
        spent: str | None = None,
        estimate: str | None = None,
        source: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message, retryable=retryable)
        self.budget = budget
        self.spent = spent
        self.estimate = estimate
        self.source = source


class KirinIdError(KirinError, ValueError):
    """The value is not a valid Kirin task id, or list of them. No request was made."""


class KirinDestinationError(KirinError):
    """The video cannot be stored there: unknown storage, missing library, a file that may not be replaced."""


class KirinNetworkError(KirinError):
    """There was no response.

    :param sent: False only if it is certain that the gateway did not receive the request (the connection was never
        made); True if it may have
    """

    retryable = True

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class KirinResponseError(KirinError):
    """The response is not the API's: HTML from a proxy, truncated JSON, no task id, too long."""

    retryable = True


class KirinUnknownSubmitError(KirinError):
    """A submission may have been accepted, and may be billed, but cannot be found.

    :param external_task_id: the external task id to look for
    """

    def __init__(self, message: str, *, external_task_id: str = "", retryable: bool = False) -> None:
        super().__init__(message, retryable=retryable)
        self.external_task_id = external_task_id


class KirinLostTaskError(KirinError):
    """The gateway no longer knows the recorded generation of this step. Nothing was submitted again."""


class KirinTimeoutError(KirinError):
    """The wait timed out before the generation was seen to end. It may continue at Kirin, and be billed.

    :param kirin_task_ids: the unfinished generations
    """

    retryable = True

    def __init__(self, message: str, *, kirin_task_ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.kirin_task_ids = tuple(kirin_task_ids)


class KirinUnfinishedError(KirinError):
    """A result was requested while the generation is still in progress."""

    retryable = True


class KirinAPIError(KirinError):
    """The gateway, or the model behind it, returned an error.

    :param message: one readable line
    :param http_status: the HTTP status; None if the error is that of a failed generation
    :param code: the API's own code, as a string (codes may start with 0)
    :param request_id: the gateway's request id, for its support
    :param retry_after: seconds that the gateway asked to wait
    """

    #: The KirinTask that failed, if the error is that of a generation: it may still have cost something.
    kirin_task: Any = None
    #: For 401, 403 and 404: whether the response came from the API, not from a proxy, a firewall or a web server in
    #: front of it (an HTML page, an unknown route).
    from_api: bool = True

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, retryable=retryable)
        self.http_status = http_status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after


class KirinInputError(KirinAPIError):
    """The API rejected the user's input: image, prompt, duration... Another try cannot help."""


class KirinAuthError(KirinAPIError):
    """The API key is missing, wrong, or not allowed to do this."""


class KirinCreditError(KirinAPIError):
    """The account does not have enough credit."""


class KirinNotFoundError(KirinAPIError):
    """The gateway does not know this id for this key, or this path at all."""


class KirinConflictError(KirinAPIError):
    """The external task id is already in use."""


class KirinRateLimitError(KirinAPIError):
    """Too many requests. Nothing was accepted."""

    retryable = True


class KirinCapacityError(KirinRateLimitError):
    """The account is full: it runs as many generations as it allows at once. Nothing was accepted."""


class KirinUnavailableError(KirinAPIError):
    """The gateway, or the provider behind it, is temporarily unavailable."""

    retryable = True


class KirinTaskFailedError(KirinAPIError):
    """The generation failed; the API's code and message say why."""

    retryable = True


class KirinNoVideoError(KirinTaskFailedError):
    """The generation completed without a video (moderated or expired). This is final."""

    retryable = False
