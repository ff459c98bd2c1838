"""Everything that this provider keeps in Airflow: one table of keys.

It is kept in XComs and, on Airflow 3.3 and later, in the task state store (AIP-103). Airflow deletes a task's XComs
when a try begins (a retry or a clear, not the resumption after a deferral); the task state store survives that.

=============================  ==========  ========================================================================
key                            kept in     contents, and for how long
=============================  ==========  ========================================================================
``return_value``               XCom        Airflow's own key. The Kirin task id, ``KirinTask.to_dict()`` with
                                           ``files`` and ``file_details``, or file URIs: what the operator or sensor
                                           documents.
``kirin_submission``           XCom        The generation that the task submitted or adopted. Until the next try.
``kirin_order``                XCom        What the generation was ordered with, for the Kirin page. Until the next
                                           try.
``kirin_files``                XCom        The files that the task wrote, and what is known of them. Until the next
                                           try.
``kirin_usage``                XCom        The generations that the task saw end, with their cost. Until the next
                                           try.
``kirin_callback``             XCom        What a callback has done: it ended the task's wait, or emitted an Asset
                                           event. Until the next try.
``kirin_budget``               XCom        What the task holds of its run's budget. Until the next try, which
                                           restores it from the task state store.
``kirin_budget``               task state  The same. For Airflow's default retention.
``kirin_batch``                XCom        Where a batch stands, and where its manifest is. Until the next try, which
                                           pushes it again.
``kirin:usage``                task state  The same as ``kirin_usage``, over all tries and clears. As long as the
                                           run.
``kirin:batch``                task state  Where the manifest of a batch is. As long as the run.
``kirin:latest``               task state  The last external task id that the task submitted under. As long as the
                                           run.
``kirin:submission:<id>``      task state  One submission, by its external task id: an intent before the request,
                                           the Kirin task id after it; deleted when the gateway rejects it. As long
                                           as the run.
=============================  ==========  ========================================================================

Shapes and users:

``kirin_submission``
    ``{"kirin_task_id", "external_task_id", "kirin_conn_id", "price_key", "prompt_digest", "images"}``, with
    ``"failed_costs"`` (Kirin task id -> US dollars) once a generation of the step has failed. Only the two ids are
    always there.
    Written by :class:`.SubmissionRecord`, as soon as the gateway has accepted the submission.
    Read by the same task after its wait, by ``KirinDownloadOperator`` downstream, by later runs and mapped siblings
    (``SubmissionRecord.known_generations``), by :class:`.RunBudget`, the Kirin page and ``kirin costs``.

``kirin_order``
    ``{"kirin_task_id", "model", "prompt", "negative_prompt", "images", "settings"}``, see
    :func:`.order_of`: bounded, without image bytes, signed queries or addresses for callbacks.
    Written by :class:`.SubmissionRecord` together with ``kirin_submission``, if it is known what the generation was
    made from. Read by the Kirin page, and for the JSON file beside a video.

``kirin_files``
    ``{"kirin_task_id", "files", "file_details"}``: URIs, and a :class:`.VideoFile` for each. Written by
    :func:`.record_files`, read by downstream tasks, ``kirin list`` and the Kirin page, which opens only what is below
    ``[kirin] media_roots``.

``kirin_usage``, ``kirin:usage``
    A list of ``{"kirin_task_id", "model", "status", "cost", "at"}``, with ``"error"`` (``code``, ``message``),
    ``"created_at"`` and ``"completed_at"`` if the gateway reports them.
    Written by :func:`.record_outcomes` for operators and sensors, before anything that can still fail; by the triggers
    that end a task, the XCom only.
    The XCom is read by :class:`.RunBudget`, the Kirin page and ``kirin costs``; the state by
    :func:`.record_outcomes`, which counts each generation once, and by ``kirin costs``.

``kirin_callback``
    ``{"kirin_task_id", "at"}``, with ``"started_at"``, the start of the wait, if it ended one.
    Written by the callback receiver on the API server. Read by the trigger whose wait was ended, which could not
    distinguish it from a kill otherwise. It also lets only one of several callbacks emit an Asset event.

``kirin_budget``
    A list of ``{"external_task_id", "usd", "price_key"}``, with ``"kirin_task_id"`` once restored.
    Written by :class:`.RunBudget`, before each submission. The XCom is read by the budget of every Kirin task in the
    run, and as a source of known prices by later runs; the state by the next try of the same task.

``kirin_batch``
    What :func:`.progress` returns: ``"manifest"`` (a URI), sums, and the first rows without a video. All else about a
    batch is in the files beside its manifest; see :mod:`.journal`.
    Written by ``KirinBatchOperator`` when a process takes the batch over and at the end of each wave, in a long one
    once a minute. Read by the Kirin page; ``kirin costs`` reads the manifest.

``kirin:batch``
    ``{"manifest": <URI>}``.
    Written by ``KirinBatchOperator`` when it begins: a later process learns from it that there was a journal.
    ``kirin costs`` reads the manifest.

``kirin:latest``
    ``{"external_task_id", "round"}``: the external task id depends on the payload, which may differ on the next try.
    Written and read by :class:`.SubmissionRecord`.

``kirin:submission:<id>``
    ``{"intent": True, "kirin_conn_id", "price_key", "failed_costs", "model", "inputs"}`` before the request, the same
    with ``"kirin_task_id"`` in place of ``"intent"`` after it, or ``{"sent_as": <external task id>}`` if the payload
    was submitted under another id. The ``inputs`` are the order and the input fields of ``kirin_submission``.
    Written and read by :class:`.SubmissionRecord`; read by ``kirin costs``.
"""

from __future__ import annotations

#: The XCom of the generation that a task submitted or adopted.
SUBMISSION_KEY = "kirin_submission"
#: The XCom of what a generation was ordered with.
ORDER_KEY = "kirin_order"
#: The XCom of the files that a task wrote.
FILES_KEY = "kirin_files"
#: The XCom of the generations that a task saw end.
USAGE_KEY = "kirin_usage"
#: The XCom of what a callback has done.
CALLBACK_KEY = "kirin_callback"
#: The XCom, and the task state, of what a task holds of its run's budget.
BUDGET_KEY = "kirin_budget"

#: The XCom with the progress of a batch and the URI of its manifest.
BATCH_KEY = "kirin_batch"

#: All task state but the budget begins with this.
STATE_PREFIX = "kirin:"
#: The task state of the generations that a task saw end.
USAGE_STATE_KEY = f"{STATE_PREFIX}usage"
#: The task state with the URI of the manifest of a batch.
BATCH_STATE_KEY = f"{STATE_PREFIX}batch"
#: The task state of the last external task id that a task submitted under.
LATEST_KEY = f"{STATE_PREFIX}latest"


def submission_state_key(external_task_id: str) -> str:
    """Return the key of the task state that holds one submission."""
    # A word of its own: a user's external task id may be "latest".
    return f"{STATE_PREFIX}submission:{external_task_id}"
