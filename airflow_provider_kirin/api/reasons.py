"""Find the reason in an error of any form: the gateway, the models behind it and proxies have names of their own.

Whether a submission was accepted rests on the API's own names only; see :func:`read_reason`. The others are for people.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from airflow_provider_kirin.api.redaction import one_line

#: Names of a message, without case, underscores and hyphens, in the order of how much they usually tell.
_WORDS = (
    *("errormessage", "message", "msg", "errormsg", "errmsg", "errordescription", "error", "errors", "detail"),
    *("details", "errordetail", "errordetails", "description", "reason", "failurereason", "failreason", "failedreason"),
    *("failuremessage", "failmessage", "failmsg", "failure", "taskstatusmsg", "statusmessage", "statusmsg"),
    *("faultstring", "fault", "cause", "title", "text"),
)
#: Those that only an error has.
_FAILURES = frozenset(name for name in _WORDS if name.startswith(("err", "fail", "fault"))) | {"providererror"}
#: Those that say nothing to people.
_CODES = frozenset({"code", "errorcode", "errcode", "status", "statuscode", "type", "param", "requestid"})
_MAX_LEVELS = 6


def read_reason(source: Any) -> tuple[str, str]:
    """Return the code and the message of an error, each empty if there is none, under the API's own names.

    :param source: the error as the gateway reports it: an object, a string, or a list of either
    """
    if isinstance(source, list):
        return next(filter(any, map(read_reason, source)), ("", ""))
    if isinstance(source, str):
        return "", one_line(source)
    if not isinstance(source, Mapping):
        return "", ""
    codes = (read_text(source.get(name)) for name in ("error_code", "code"))
    words = (source.get(name) for name in ("error_message", "message", "msg"))
    code = next((code for code in codes if code not in ("", "0")), "")
    return one_line(code, 80), one_line(next((text for text in words if isinstance(text, str) and text), ""))


def read_any_reason(source: Any) -> tuple[str, str]:
    """Return the code and the message of an error of any form, each empty if there is none.

    :param source: as for :func:`read_reason`
    """
    code, message = read_reason(source)
    return code, message or one_line(find_words(source))


def find_words(source: Any, level: int = 0) -> str:
    """Return what an error says, under whatever name; empty if there is nothing.

    :param source: a JSON value
    :param level: how deep it is nested
    """
    if isinstance(source, str):
        return source.strip()
    if level > _MAX_LEVELS:
        return ""
    if isinstance(source, list):
        found = dict.fromkeys(find_words(item, level + 1) for item in source[:5])
        return "; ".join(filter(None, found))
    if not isinstance(source, Mapping):
        return ""
    named = {_plain(name): value for name, value in source.items()}
    for name in _WORDS:
        if name in named and (words := find_words(named[name], level + 1) or _rest_of(named[name])):
            # Web frameworks name the field.
            field = named.get("loc")
            return f"{'.'.join(map(str, field))}: {words}" if isinstance(field, list) and field else words
    return ""


def find_failure(fields: Any, names: Collection[str] = _FAILURES) -> str:
    """Return what is said, at whatever level, under a name that only an error has; empty if there is nothing.

    :param fields: a task object, or a part of one
    :param names: the names
    """
    level = list(_mappings(fields))
    for _ in range(_MAX_LEVELS):
        for each in level:
            found = [value for name, value in each.items() if _plain(name) in names]
            if words := find_words(found) or "; ".join(filter(None, map(_rest_of, found))):
                return one_line(words)
        level = [inner for each in level for value in each.values() for inner in _mappings(value)]
    return ""


def find_any_words(value: Any) -> str:
    """Return the first thing that anything in a value says; empty if there is nothing.

    :param value: a JSON value, such as an output without a video
    """
    return find_failure(value, _WORDS)


def describe_body(body: Any) -> str:
    """Return JSON without any known name, shortened; empty if it says nothing.

    :param body: decoded JSON
    """
    return one_line(json.dumps(body, ensure_ascii=False), 200) if body else ""


def read_text(value: Any) -> str:
    """Return a string, or an integer as a string: ids and codes occur as either."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**30 else ""


def _rest_of(error: Any) -> str:
    """Return an error object without any known name as JSON."""
    if not isinstance(error, Mapping):
        return ""
    rest = {name: value for name, value in error.items() if value and _plain(name) not in (*_CODES, *_WORDS)}
    return json.dumps(rest, ensure_ascii=False) if rest else ""


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _mappings(item)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
