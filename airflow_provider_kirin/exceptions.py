"""One tree of errors, one class for each thing a DAG author would handle differently.

::

    KirinError                     anything this provider raises
    ├── KirinConfigError           the connection is unusable: no key, malformed host
    ├── KirinPayloadError          the payload or an image breaks a rule; nothing was sent
    ├── KirinBudgetError           this would exceed the DAG run's max_cost_usd, or nobody can say what it costs
    ├── KirinIdError               what should be a Kirin task id cannot be one; nothing was asked
    ├── KirinDestinationError      the video cannot be put where it should go
    ├── KirinNetworkError          no reply: refused, cut, timed out  (``.sent`` tells whether a request may have left)
    ├── KirinReplyError            a reply that nobody can read; for a POST the outcome is unknown
    ├── KirinUnknownSubmitError    a submission may have been accepted; names the external task id to look for
    ├── KirinLostTaskError         a generation that is on record is not known to the gateway; nothing was submitted
    ├── KirinTimeoutError          the wait ran out; the generation may go on at Kirin
    ├── KirinUnfinishedError       a result was asked for before there is one
    └── KirinAPIError              the gateway or the model said no
        ├── KirinInputError        the model's user-input codes, HTTP 400/413/422
        ├── KirinAuthError         HTTP 401/403, the upstream's authentication code
        ├── KirinCreditError       out of credit: HTTP 402, or 403 with a balance text
        ├── KirinNotFoundError     HTTP 404: no such generation for this key, or a wrong path
        ├── KirinConflictError     HTTP 409: the external task id is in use already
        ├── KirinRateLimitError    HTTP 429: nothing was accepted; try later
        ├── KirinUnavailableError  HTTP 408 and 5xx, provider unavailable
        └── KirinTaskFailedError   the generation itself failed
            └── KirinNoVideoError  it completed, and there is no video in it

Each error knows whether another try can help (:attr:`KirinError.retryable`). None of them ever holds an API key,
image bytes or the query string of a signed URL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any


class KirinError(Exception):
    """Base of every error that this provider raises."""

    #: Whether the same call may succeed later, with nothing changed by the user.
    retryable: bool = False

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        if retryable is not None:
            self.retryable = retryable


class KirinConfigError(KirinError):
    """The connection cannot be used as it is: no API key, malformed host, wrong extra.

    :param http_status: of a redirect; None if no request was answered
    """

    def __init__(self, message: str, *, http_status: int | None = None, retryable: bool | None = None) -> None:
        super().__init__(message, retryable=retryable)
        self.http_status = http_status


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a payload.

    :param field: where: ``prompt``, ``watermark_info.enabled``
    :param value: the value as a short, safe text; never image bytes, never a whole prompt
    :param rule: what is allowed
    :param remedy: what to do about it
    """

    field: str
    value: str
    rule: str
    remedy: str

    def __str__(self) -> str:
        end = "" if self.remedy.endswith((".", "?")) else "."
        return f"{self.field} = {self.value}: {self.rule}. {self.remedy}{end}"


class KirinPayloadError(KirinError, ValueError):
    """The payload breaks at least one rule. Nothing was sent, nothing was spent: by this try.

    :param problems: everything that is wrong, not only the first thing
    :param model: the model whose rules were broken
    :param earlier: what an earlier try of the step has bought, or may have; empty where there can be nothing
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
        # Exceptions that need keyword-only arguments do not pickle by themselves; Airflow pickles some.
        return partial(KirinPayloadError, model=self.model, earlier=self.earlier), (self.problems,)


class KirinBudgetError(KirinError):
    """The DAG run's ``max_cost_usd`` does not cover this generation. Nothing was submitted, nothing was spent.

    :param budget: US dollars as a text, as all of these
    :param spent: what the run has spent or holds reserved
    :param estimate: what this generation would cost; None where nobody can say
    :param source: who says so
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
    """What should be a Kirin task id (or a list of them) cannot be one. Nothing was asked."""


class KirinDestinationError(KirinError):
    """The video cannot be put where it should go: unknown storage, missing library, a file that may not be replaced."""


class KirinNetworkError(KirinError):
    """No reply came.

    :param sent: False only where it is certain that the gateway cannot have taken the request in
        (the connection was never made); True where it may have.
    """

    retryable = True

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class KirinReplyError(KirinError):
    """A reply came and it is not the API's: HTML from a proxy, cut JSON, no task id, too long."""

    retryable = True


class KirinUnknownSubmitError(KirinError):
    """A submission may have been accepted, and be billed, and cannot be found.

    :param external_task_id: what to look for
    """

    def __init__(self, message: str, *, external_task_id: str = "", retryable: bool = False) -> None:
        super().__init__(message, retryable=retryable)
        self.external_task_id = external_task_id


class KirinLostTaskError(KirinError):
    """A generation that was bought for this step is not known to the gateway any more. Nothing was submitted anew."""


class KirinTimeoutError(KirinError):
    """The wait ran out before the generation was seen to end. It may go on at Kirin, and be billed.

    :param kirin_task_ids: the generations that were not finished
    """

    retryable = True

    def __init__(self, message: str, *, kirin_task_ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.kirin_task_ids = tuple(kirin_task_ids)


class KirinUnfinishedError(KirinError):
    """A result was asked for while the generation is still in progress."""

    retryable = True


class KirinAPIError(KirinError):
    """The gateway, or the model behind it, said no.

    :param message: one readable line
    :param http_status: the HTTP status, None when the error came inside a task
    :param code: the API's own code, as text (codes may start with 0)
    :param request_id: the gateway's request id, for its support
    :param retry_after: seconds that the gateway asked us to wait
    """

    #: The KirinTask that ended so, for an error that came inside one: it may have cost something all the same.
    kirin_task: Any = None
    #: For 401, 403 and 404: whether it was the API that said so, and not a proxy, a firewall or a web server in its
    #: place: a page, an unknown route.
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
    """The API refused what the user sent: image, prompt, duration... Another try cannot help."""


class KirinAuthError(KirinAPIError):
    """The API key is missing, wrong, or not allowed to do this."""


class KirinCreditError(KirinAPIError):
    """The account has not enough credit."""


class KirinNotFoundError(KirinAPIError):
    """The gateway does not know this id for this key, or this path at all."""


class KirinConflictError(KirinAPIError):
    """The external task id is in use already."""


class KirinRateLimitError(KirinAPIError):
    """Too many requests, or too many generations at once. Nothing was accepted."""

    retryable = True


class KirinUnavailableError(KirinAPIError):
    """The gateway or the provider behind it has trouble of its own."""

    retryable = True


class KirinTaskFailedError(KirinAPIError):
    """The generation failed; the API's code and message say why."""

    retryable = True


class KirinNoVideoError(KirinTaskFailedError):
    """The generation completed and holds no video (moderated or expired). This is final."""

    retryable = False
