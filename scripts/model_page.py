"""Write docs/models.md: every model, its parameters and rules, from the schema files."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from airflow_provider_kirin.api.models import load_schema, model_names

PAGE = Path(__file__).resolve().parent.parent / "docs" / "models.md"
SOURCES = {
    None: "page",
    "vtrix+kling": "page, Kling",
    "kling": "Kling",
    "client": "public client",
    "presumed": "presumed",
}
CONFIDENCE = {"documented": "whole page known", "partly": "partly documented", "unknown": "not documented"}
TYPES = {
    "string": "text",
    "number": "number",
    "integer": "int",
    "boolean": "bool",
    "object": "mapping",
    "array": "list of mappings",
}
INTRO = """\
# The models

<!-- Written by scripts/model_page.py from airflow_provider_kirin/api/models/: change that, then `make models`. -->

`model="..."` of an [operator](operators.md) or of [`KirinHook`](reference.md) picks the model; `payload` holds its
parameters. What is listed here is checked before anything is paid, in one error with every mistake.

**How sure is this?** The gateway has a page for each model, but of most pages no whole copy is public. So each model
and each parameter says where it is from:

| Source | Means |
|---|---|
| page | The gateway's own page of the model (doc.vtrix.ai) states it. |
| Kling | Kling, whose models these are, states it; the part of the page that would is not known. |
| page, Kling | The page names it, Kling states the details. |
| public client | A client of the gateway's maker sends it. |
| presumed | All pages that are known whole have it, so this model surely has it too. |

- Of a model whose whole page is known, parameters that are not listed are refused. Every other model may have more of
  them: those are sent as they are, and the log says so once.
- Defaults are sent. Those in brackets are the gateway's own and are not.
- An image is a URL, path, storage URI, bytes or Base64 ([images](operators.md#images)), and is JPEG or PNG, smaller
  than 10,000,000 bytes, each side at least 300 px, unless another limit is listed.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE}")


def page() -> str:
    """Return the whole page."""
    schemas = [load_schema(model) for model in model_names()]
    rows = [
        f"| [`{schema['title']}`](#{schema['title']}) | {schema['x-task']} | {CONFIDENCE[schema['x-confidence']]} |"
        for schema in schemas
    ]
    overview = "\n".join(["| Model | Kind | Known |", "|---|---|---|", *rows])
    return "\n".join([INTRO, overview, *(_section(schema) for schema in schemas)]) + "\n"


def _section(schema: dict[str, Any]) -> str:
    lines = ["", f"## {schema['title']}", "", _headline(schema), ""]
    if outputs := schema.get("x-output"):
        lines += [f"Video: {'; '.join(map(_output, outputs))}.", ""]
    lines += [f"- {note}" for note in schema.get("x-notes", [])]
    lines += [""] if schema.get("x-notes") else []
    lines += ["| Parameter | Type | Default | Limits | Source |", "|---|---|---|---|---|"]
    needed = schema.get("required", [])
    for name, rules in schema["properties"].items():
        if name != "model":
            lines += _rows(name, rules, required=name in needed, source=None)
    if told := list(_rules(schema)):
        lines += ["", "Rules:", "", *(f"- {rule}" for rule in told)]
    return "\n".join(lines)


def _headline(schema: dict[str, Any]) -> str:
    title = schema["description"].partition(":")[0]
    known = CONFIDENCE[schema["x-confidence"]]
    return f"{title}. {known[0].upper()}{known[1:]}."


def _output(output: dict[str, Any]) -> str:
    mode = f"`{output['mode']}` " if output["mode"] else ""
    return f"{mode}{output['resolution']}" + (f" at {output['fps']} frames a second" if output["fps"] else "")


def _rows(name: str, rules: dict[str, Any], *, required: bool, source: str | None) -> Iterator[str]:
    source = rules.get("x-source", source)
    default = f"`{rules['default']!r}`" if "default" in rules else ""
    default = f"(`{rules['x-default']!r}`)" if "x-default" in rules else default
    limits = "; ".join(filter(None, ["required" if required else "", *_limits(rules)]))
    about = _about(rules)
    said = f"{limits[:1].upper()}{limits[1:]}. {about}" if limits else about
    kind = "image" if "x-image" in rules else TYPES[rules.get("type", "string")]
    yield f"| `{name}` | {kind} | {default.replace(chr(39), chr(34))} | {said} | {SOURCES[source]} |"
    inner, mark = (rules["items"], "[]") if "items" in rules else (rules, "")
    for child, of_child in inner.get("properties", {}).items():
        yield from _rows(f"{name}{mark}.{child}", of_child, required=child in inner.get("required", []), source=source)


def _about(rules: dict[str, Any]) -> str:
    """Return a field's description; how an image is given is said once, at the top."""
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
    if "minimum" in rules:
        yield f"{rules['minimum']} to {rules['maximum']}"
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
    """Yield what a schema says in its own words, in order, each once."""
    seen: set[str] = set()
    for rule, source in _said(schema, None):
        if rule not in seen:
            seen.add(rule)
            yield rule + (f" ({SOURCES[source]})" if source else "")


def _said(schema: Any, source: str | None) -> Iterator[tuple[str, str | None]]:
    if isinstance(schema, dict):
        source = schema.get("x-source", source)
        if "x-rule" in schema:
            yield schema["x-rule"], source
        for inner in schema.values():
            yield from _said(inner, source)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _said(inner, source)


if __name__ == "__main__":
    main()
