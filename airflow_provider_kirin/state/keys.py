"""The keys of all that is kept in Airflow: XCom and, from Airflow 3.3, the task state store."""

from __future__ import annotations

#: The XCom that names the generation to look at, while a task waits and after it failed.
SUBMISSION_KEY = "kirin_submission"
#: The XCom of generations that have ended: a list of id, model, status, cost and time, pushed before anything can fail.
USAGE_KEY = "kirin_usage"
#: The entry of the task state store that keeps the same for what this task instance has told, whatever is cleared.
USAGE_STATE_KEY = "kirin:usage"
#: The XCom, and the entry of the task state store, that says for what a task instance holds money.
BUDGET_KEY = "kirin_budget"
