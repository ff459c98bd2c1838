"""Write airflow_provider_kirin/payloads/: a TypedDict for each model's payload, from the schema files."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from airflow_provider_kirin.api.models import load_schema, model_names

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "airflow_provider_kirin" / "payloads"
PLAIN = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"}
#: Which module holds the models of a kind (``x-task``); all others are in the last one.
MODULES = {"image to video": "image_to_video", "text to video": "text_to_video"}
OTHER = "more"
#: What nearly all models take, and how its class is described.
COMMON = frozenset({"watermark_info", "callback_url", "external_task_id"})
SHARED = "What nearly all models take."
#: So many options get a name of their own.
MANY = 6
ABOUT = {
    "__init__": """Types of the payloads, one a model, for editors and type checkers; nothing imports them at run time.

Written by scripts/payload_types.py from api/models/*.json: change those, then ``make models``. Values are typed as they
are sent, and whole seconds may be numbers too. A payload with templates in it is better an ordinary dict.
""",
    "parts": "What stands inside of payloads. Written by scripts/payload_types.py.",
    "image_to_video": "Payloads of models that take an image. Written by scripts/payload_types.py.",
    "text_to_video": "Payloads of models that take a text alone. Written by scripts/payload_types.py.",
    OTHER: "Payloads of models that take other things. Written by scripts/payload_types.py.",
}
IMAGE = """
#: URL, path, storage URI or Base64 as text; the file itself; or a path object.
Image = str | bytes | bytearray | memoryview | os.PathLike[str]
"""


class Writer:
    """Collects classes by module; parts that look the same in two models are one class."""

    def __init__(self) -> None:
        self.modules: dict[str, dict[str, str]] = {name: {} for name in ABOUT}

    def payload(self, model: str) -> None:
        """Add the class of a model's payload."""
        schema = load_schema(model)
        about = schema["description"].partition(":")[0]
        rules = {name: each for name, each in schema["properties"].items() if name != "model"}
        module = MODULES.get(schema["x-task"], OTHER)
        self._add(module, class_name(model) + "Payload", {**schema, "properties": rules}, f"``{model}``: {about}.")

    def text(self, module: str) -> str:
        """Return a module, neither formatted nor rid of imports that it does not need."""
        payloads = {name: each for name, each in self.modules.items() if name not in ("__init__", "parts")}
        if module == "__init__":
            imports = [
                f"from airflow_provider_kirin.payloads.{each} import {', '.join(payloads[each])}" for each in payloads
            ]
            imports.append("from airflow_provider_kirin.payloads.parts import Image")
            names = sorted(["Image", *(name for each in payloads.values() for name in each)])
            return "\n".join([*_head(module), *imports, "", f"__all__ = {names!r}", ""])
        imports = ["from typing import Literal, Required, TypedDict"]
        if module == "parts":
            imports = ["import os", *imports, IMAGE]
        else:
            imports.append(
                f"from airflow_provider_kirin.payloads.parts import Image, {', '.join(self.modules['parts'])}"
            )
        return "\n".join([*_head(module), *imports, "", "\n\n".join(self.modules[module].values())])

    def _add(self, module: str, name: str, schema: dict[str, Any], about: str) -> str:
        needed = schema.get("required", [])
        base, properties = "TypedDict", dict(schema["properties"])
        if properties.keys() >= COMMON and module != "parts":
            base = self._add(
                "parts", "Common", {"properties": {each: properties.pop(each) for each in sorted(COMMON)}}, SHARED
            )
        fields = []
        for field, rules in properties.items():
            kind = self._type(field, rules, name)
            fields.append(f"    {field}: {f'Required[{kind}]' if field in needed else kind}\n")
        text = f'class {name}({base}, total=False):\n    """{about}"""\n\n' + "".join(fields)
        return self._keep(module, name, text)

    def _type(self, field: str, rules: dict[str, Any], owner: str) -> str:
        if "x-image" in rules:
            return "Image"
        if "enum" in rules:
            return self._options(field, rules["enum"])
        if rules["type"] == "array":
            return f"list[{self._nested(f'{field}_item', rules['items'], owner, f'An item of ``{field}``.')}]"
        if rules["type"] == "object":
            return self._nested(field, rules, owner, f"What ``{field}`` holds.")
        return PLAIN[rules["type"]]

    def _options(self, field: str, options: list[str]) -> str:
        numbers = [int(option) for option in options if option.isdecimal()]
        literal = f"Literal[{', '.join(map(repr, [*options, *numbers]))}]"
        if len(options) < MANY:
            return literal
        name = f"{class_name(field)}{options[0].title()}To{options[-1].title()}"
        return self._keep("parts", name, f"{name} = {literal}\n") if numbers else literal

    def _keep(self, module: str, name: str, text: str) -> str:
        if self.modules[module].setdefault(name, text) != text:
            raise ValueError(f"two things would be called {name}")
        return name

    def _nested(self, name: str, rules: dict[str, Any], owner: str, about: str) -> str:
        """Add the class of a mapping; with the model's name before it where two models mean different things."""
        try:
            return self._add("parts", class_name(name), rules, about)
        except ValueError:
            return self._add("parts", owner.removesuffix("Payload") + class_name(name), rules, about)


def _head(module: str) -> list[str]:
    # No `from __future__ import annotations`: with it, nobody could tell at run time which keys are required.
    return [f'"""{ABOUT[module]}"""', ""]


def class_name(name: str) -> str:
    """``kirin_v1_6_i2v`` is ``KirinV1_6I2v``."""
    return re.sub(r"_?([a-z])([a-z0-9]*)", lambda match: match[1].upper() + match[2], name)


def modules() -> dict[Path, str]:
    """Return the modules of the package as ruff leaves them: formatted, without imports that they do not need."""
    writer = Writer()
    for model in model_names():
        writer.payload(model)
    texts = {}
    for name in ABOUT:
        path = PACKAGE / f"{name}.py"
        texts[path] = _ruff(path, "format", _ruff(path, "check", writer.text(name), "--fix", "--exit-zero"))
    return texts


def _ruff(path: Path, verb: str, text: str, *options: str) -> str:
    command = [sys.executable, "-m", "ruff", verb, "--quiet", *options, "--stdin-filename", str(path), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def main() -> int:
    """Write the package, or say with exit code 1 that it is not what it would be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    for path, text in modules().items():
        if check:
            if path.read_text(encoding="utf-8") != text:
                return 1
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"Wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
