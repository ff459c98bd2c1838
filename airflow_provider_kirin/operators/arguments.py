"""Templated arguments: how an argument was written decides what it means when it is empty.

A literal ``None`` means "not given". A template, or another task's output, that turns out to be None means that
something upstream went wrong, and nothing may be paid for it. Which of the two it was is only known while Airflow
renders, so it is noted there, in one place for all operators.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_kirin.api.payload.paths import FieldPath, format_path, leaves
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.exceptions import KirinPayloadError, Problem
from airflow_provider_kirin.operators.payload_templates import is_dynamic
from airflow_provider_kirin.utils.task_instance import arguments_from_outputs

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context

_RULE = "it was written as a template or as another task's output, and that turned out to be empty"
_REMEDY = "Check where the value comes from, or give a default there. If nothing is meant, leave {} out"


class TemplatedArguments:
    """An operator that knows which of its arguments were templates, or other tasks' outputs, and turned out empty."""

    #: The template fields that are judged: those of a user's subclass are its own.
    checked_fields: ClassVar[Sequence[str]] = ()
    #: What turned out empty, by its path: ``("destination",)``, ``("payload", "prompt")``.
    _empty: Mapping[FieldPath, Any] = {}
    #: What native rendering made of a template's text, by its path: the name of a type.
    _native_types: Mapping[FieldPath, str] = {}

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        """Render as any operator does, mapped or not, and note what turned out empty."""
        render = super()._do_render_template_fields  # type: ignore[misc]
        if parent is not self:
            render(parent, template_fields, context, jinja_env, seen_oids)
            return
        names = [name for name in template_fields if name in self.checked_fields]
        templates = dict(_dynamic(self, names))
        outputs = {(name,) for name in arguments_from_outputs(self, context) if name in names}
        render(parent, template_fields, context, jinja_env, seen_oids)
        fields = {name: getattr(self, name) for name in names}
        rendered = {path: _at(fields, path) for path in (*templates, *outputs)}
        self._empty = {path: value for path, value in rendered.items() if _is_empty(path, value)}
        self._native_types = {
            path: type(rendered[path]).__name__
            for path, written in templates.items()
            if isinstance(written, str) and not isinstance(rendered[path], str)
        }

    def empty_arguments(self, *names: str) -> list[Problem]:
        """Return a problem for each of these arguments, or part of one, that turned out empty.

        :param names: arguments
        """
        return [
            Problem(field, short_repr(value), _RULE, _REMEDY.format(field))
            for path, value in self._empty.items()
            if path[0] in names
            for field in [_field_of(path)]
        ]

    def refuse_empty_arguments(self, *, model: str) -> None:
        """Refuse what turned out empty, in the payload and besides, of all that decides what is bought.

        :param model: for the message
        :raises KirinPayloadError: with everything that is empty
        """
        names = [name for name in self.checked_fields if name not in _JUDGED_ELSEWHERE]
        if problems := self.empty_arguments(*names):
            raise KirinPayloadError(problems, model=model)

    def explain_native_types(self, error: KirinPayloadError) -> KirinPayloadError:
        """Return the error with native rendering named in each problem that it caused.

        :param error: about the payload as it was rendered
        """
        problems = [
            replace(problem, rule=problem.rule + self.native_rendering(problem.field)) for problem in error.problems
        ]
        return KirinPayloadError(problems, model=error.model, earlier=error.earlier)

    def native_rendering(self, field: str) -> str:
        """Return the end of a sentence that says what native rendering made of an argument; mostly nothing.

        :param field: as messages name it
        """
        types = [name for path, name in self._native_types.items() if _field_of(path) == field]
        return (
            f"; the DAG's render_template_as_native_obj=True turned the rendered text into {types[0]}" if types else ""
        )


#: Arguments with an error of their own.
_JUDGED_ELSEWHERE = frozenset({"destination", "filename_template", "max_cost_usd"})


def _dynamic(operator: Any, names: Iterable[str]) -> Iterator[tuple[FieldPath, Any]]:
    """Yield path and value of all that is not known before rendering."""
    for name in names:
        for path, value in leaves(getattr(operator, name), (name,)):
            if is_dynamic(value):
                yield path, value


def _at(value: Any, path: FieldPath) -> Any:
    """Return what stands at a path; rendering keeps mappings and lists as they are."""
    for part in path:
        value = value[part]
    return value


def _is_empty(path: FieldPath, value: Any) -> bool:
    import jinja2

    if value is None or isinstance(value, jinja2.Undefined):
        return True
    # "None" is what a template makes of None. A text of the payload may be empty where its model says so.
    return isinstance(value, str) and value.strip() in (("None",) if len(path) > 1 else ("None", ""))


def _field_of(path: FieldPath) -> str:
    """Return how messages name an argument: parameters of the payload without the payload."""
    return format_path(path[1:] if path[0] == "payload" and len(path) > 1 else path)
