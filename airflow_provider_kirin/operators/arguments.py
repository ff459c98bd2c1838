"""Templated arguments: the meaning of an empty argument depends on how it was written.

A literal ``None`` means "not given". A template or another task's output that renders to None means that something
upstream went wrong, and nothing may be paid for it. Which of the two it was is only known while Airflow renders, so it
is recorded there, in one place for all operators.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow_provider_kirin.api.payload.paths import FieldPath, format_path, leaves
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.exceptions import KirinPayloadError, Problem
from airflow_provider_kirin.operators.payload_templates import is_dynamic
from airflow_provider_kirin.utils.task_instance import arguments_from_outputs

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context

T = TypeVar("T")

#: What None becomes in a string, by itself and with ``| tojson``.
_NONE = ("None", "null")
_RULE = "it was written as a template or as another task's output, and that turned out to be empty"
_REMEDY = "Check where the value comes from, or give a default there. If nothing is meant, leave {} out"


@dataclass(frozen=True)
class Rendering:
    """What rendering made of an operator's templated arguments.

    :param empty: values that rendered to nothing, by field path: ``("destination",)``, ``("payload", "prompt")``
    :param native_types: names of the types that native rendering returned instead of strings, by field path
    """

    empty: Mapping[FieldPath, Any] = field(default_factory=dict)
    native_types: Mapping[FieldPath, str] = field(default_factory=dict)

    def empty_arguments(self, *names: str) -> list[Problem]:
        """Return a problem for each of these arguments, or part of one, that rendered to nothing.

        :param names: names of arguments
        """
        return [
            Problem(name, short_repr(value), _RULE, _REMEDY.format(name))
            for path, value in self.empty.items()
            if path[0] in names
            for name in [_field_of(path)]
        ]

    def explain_native_types(self, error: KirinPayloadError) -> KirinPayloadError:
        """Return the error with native rendering mentioned in each problem that it caused.

        :param error: about the rendered payload
        """
        problems = [
            replace(problem, rule=problem.rule + self.native_rendering(problem.field)) for problem in error.problems
        ]
        return KirinPayloadError(problems, model=error.model, earlier=error.earlier)

    def native_rendering(self, name: str) -> str:
        """Return the end of a sentence about what native rendering made of an argument; usually empty.

        :param name: the argument's name in messages
        """
        types = [type_name for path, type_name in self.native_types.items() if _field_of(path) == name]
        return (
            f"; the DAG's render_template_as_native_obj=True turned the rendered text into {types[0]}" if types else ""
        )


class TemplatedArguments:
    """An operator that knows which of its arguments were templates or other tasks' outputs and rendered to nothing."""

    #: The template fields that are checked; those of a user's subclass are its own business.
    checked_fields: ClassVar[Sequence[str]] = ()
    _rendering = Rendering()

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        """Render the fields, and record which of them rendered to nothing."""
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
        self._rendering = Rendering(
            empty={path: value for path, value in rendered.items() if _is_empty(path, value)},
            native_types={
                path: type(rendered[path]).__name__
                for path, template in templates.items()
                if isinstance(template, str) and not isinstance(rendered[path], str)
            },
        )

    def _empty_values(self) -> list[Problem]:
        """Return a problem for each empty value in the payload and in all other arguments of a submission."""
        return self._rendering.empty_arguments(
            *(name for name in self.checked_fields if name not in _CHECKED_ELSEWHERE)
        )


#: Arguments with an error of their own.
_CHECKED_ELSEWHERE = frozenset({"destination", "filename_template", "max_cost_usd"})


def check_budget(max_cost_usd: Any) -> None:
    """Check a budget when the DAG is parsed, unless only rendering makes it.

    :param max_cost_usd: the operator's argument
    :raises KirinBudgetError: it is not an amount
    """
    if max_cost_usd is not None and not is_dynamic(max_cost_usd):
        from airflow_provider_kirin.api.budget import parse_budget

        parse_budget(max_cost_usd)


def one_of(value: T, name: str, *allowed: T) -> T:
    """Return an argument that takes one of two values.

    :param name: the argument's name, for the error message
    :raises ValueError: it is neither
    """
    if value not in allowed:
        shown = ("None" if each is None else f'"{each}"' for each in allowed)
        raise ValueError(f"{name} = {value!r} must be {' or '.join(shown)}.")
    return value


def _dynamic(operator: Any, names: Iterable[str]) -> Iterator[tuple[FieldPath, Any]]:
    """Yield field path and value of everything that is only known after rendering."""
    for name in names:
        for path, value in leaves(getattr(operator, name), (name,)):
            if is_dynamic(value):
                yield path, value


def _at(value: Any, path: FieldPath) -> Any:
    """Return the value at a field path; rendering keeps the structure of mappings and lists."""
    for part in path:
        value = value[part]
    return value


def _is_empty(path: FieldPath, value: Any) -> bool:
    import jinja2

    if value is None or isinstance(value, jinja2.Undefined):
        return True
    # A string in the payload may be empty if the model allows it.
    return isinstance(value, str) and value.strip() in (_NONE if len(path) > 1 else (*_NONE, ""))


def _field_of(path: FieldPath) -> str:
    """Return the name of an argument in messages: parameters without the leading ``payload``."""
    return format_path(path[1:] if path[0] == "payload" and len(path) > 1 else path)
