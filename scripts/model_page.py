"""The page of the models, from the schema files: every model with its parameters and rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from airflow_provider_kirin.api.models import load_schema, model_names

SOURCES = {
    None: "page",
    "vtrix+kling": "page, Kling",
    "kling": "Kling",
    "client": "public client",
    "presumed": "presumed",
}
CONFIDENCE = {"documented": "complete page known", "partly": "partly documented", "unknown": "not documented"}
TYPES = {
    "string": "string",
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
    "object": "object",
    "array": "array of objects",
}
INTRO = """\
# The models

`model="..."` of an [operator](operators.md) or of [`KirinHook`](python.md) selects the model; `payload` holds its
parameters. Everything listed here is checked before anything is paid. One error lists all mistakes.

**How certain is this?** The gateway has a page for each model, but of most pages no complete copy is public. So each
model and each parameter has its source:

| Source | Meaning |
|---|---|
| page | The gateway's own page of the model (doc.vtrix.ai) states it. |
| Kling | Kling, the maker of these models, states it; that part of the page is not known. |
| page, Kling | The page names it; Kling states the details. |
| public client | A client published by the gateway's maker sends it. |
| presumed | All completely known pages have it, so this model probably has it too. |

- If a model's complete page is known, unlisted parameters are refused. Every other model may have more parameters:
  they are sent unchecked, and the log says so once, unless a name looks like a misspelling, which is refused.
- Defaults are sent, except those in brackets, which the gateway itself applies.
- An image is a URL, path, storage URI, bytes or Base64 ([images](payload.md#images)), and is JPEG or PNG, smaller
  than 10,000,000 bytes, each side at least 300 px, unless another limit is listed.
"""


def page() -> str:
    """Return the whole page."""
    schemas = [load_schema(model) for model in model_names()]
    rows = [
        f"| [`{schema['title']}`](#{schema['title']}) | {schema['x-task']} | {CONFIDENCE[schema['x-confidence']]} |"
        for schema in schemas
    ]
    overview = "\n".join(["| Model | Type | Documentation |", "|---|---|---|", *rows])
    return "\n".join([INTRO, overview, *(_section(schema) for schema in schemas)]) + "\n"


def _section(schema: dict[str, Any]) -> str:
    lines = ["", f"## {schema['title']}", "", _headline(schema), ""]
    if outputs := schema.get("x-output"):
        lines += [f"Video: {'; '.join(map(_output, outputs))}.", ""]
    lines += [f"- {note}" for note in schema.get("x-notes", [])]
    lines += [""] if schema.get("x-notes") else []
    lines += ["| Parameter | Type | Default | Limits | Source |", "|---|---|---|---|---|"]
    required = schema.get("required", [])
    for name, property_ in schema["properties"].items():
        if name != "model":
            lines += _rows(name, property_, required=name in required, source=None)
    if rules := list(_rules(schema)):
        lines += ["", "Rules:", "", *(f"- {rule}" for rule in rules)]
    return "\n".join(lines)


def _headline(schema: dict[str, Any]) -> str:
    title = schema["description"].partition(":")[0]
    known = CONFIDENCE[schema["x-confidence"]]
    return f"{title}. {known[0].upper()}{known[1:]}."


def _output(output: dict[str, Any]) -> str:
    mode = f"`{output['mode']}` " if output["mode"] else ""
    return f"{mode}{output['resolution']}" + (f" at {output['fps']} frames per second" if output["fps"] else "")


def _rows(name: str, rules: dict[str, Any], *, required: bool, source: str | None) -> Iterator[str]:
    source = rules.get("x-source", source)
    default = f"`{rules['default']!r}`" if "default" in rules else ""
    default = f"(`{rules['x-default']!r}`)" if "x-default" in rules else default
    limits = "; ".join(filter(None, ["required" if required else "", *_limits(rules)]))
    about = _about(rules)
    text = f"{limits[:1].upper()}{limits[1:]}. {about}" if limits else about
    type_ = "image" if "x-image" in rules else TYPES[rules.get("type", "string")]
    yield f"| `{name}` | {type_} | {default.replace(chr(39), chr(34))} | {text} | {SOURCES[source]} |"
    inner, mark = (rules["items"], "[]") if "items" in rules else (rules, "")
    for child, of_child in inner.get("properties", {}).items():
        yield from _rows(f"{name}{mark}.{child}", of_child, required=child in inner.get("required", []), source=source)


def _about(rules: dict[str, Any]) -> str:
    """Return a field's description, without how to give an image: the top of the page says that once."""
    text: str = rules["description"]
    if "x-image" in rules:
        given = r"[:.]? ?[Aa] URL, or plain Base64(?: without a data: prefix)?[.;]? ?(\w?)"
        text = re.sub(given, lambda match: f". {match[1].upper()}", text).strip(". ") + "."
        text = "" if text == "." else text
    return re.sub(r"<<<\w+>>>", lambda match: f"`{match[0]}`", text)


def _limits(rules: dict[str, Any]) -> Iterator[str]:
    if "enum" in rules:
        yield (
            " or ".join(f'`"{option}"`' for option in rules["enum"])
            if len(rules["enum"]) < 4
            else (f'`"{rules["enum"][0]}"` to `"{rules["enum"][-1]}"`')
        )
    low, high = rules.get("minLength"), rules.get("maxLength")
    if high:
        yield f"{low} to {high:,} characters" if low else f"at most {high:,} characters"
    low, high = rules.get("minimum"), rules.get("maximum")
    if low is not None or high is not None:
        yield f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
    low, high = rules.get("minItems"), rules.get("maxItems")
    if high:
        yield f"{low} to {high} items" if low else f"at most {high} item{'s' if high > 1 else ''}"
    if rules.get("x-url"):
        yield "an http or https URL"
    if image := rules.get("x-image"):
        if image["minSide"] < 300:
            yield "of any size"
        elif "maxRatio" in image:
            yield f"aspect ratio 1:{image['maxRatio']} to {image['maxRatio']}:1"


def _rules(schema: Any) -> Iterator[str]:
    """Yield the rules of a schema, in order, each once."""
    seen: set[str] = set()
    for rule, source in _rules_with_sources(schema, None):
        if rule not in seen:
            seen.add(rule)
            yield rule + (f" ({SOURCES[source]})" if source else "")


def _rules_with_sources(schema: Any, source: str | None) -> Iterator[tuple[str, str | None]]:
    if isinstance(schema, dict):
        source = schema.get("x-source", source)
        if "x-rule" in schema:
            yield schema["x-rule"], source
        for inner in schema.values():
            yield from _rules_with_sources(inner, source)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _rules_with_sources(inner, source)
