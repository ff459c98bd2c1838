"""A DAG parse costs next to nothing, the rooms are walled off from each other, and the public names are there."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_kirin

PACKAGE = Path(airflow_provider_kirin.__file__).parent
#: What a DAG file must not load before a task runs.
HEAVY = {"requests", "aiohttp", "PIL", "flask_appbuilder", "wtforms", "av"}
#: What each DAG file loads anyway, on Airflow 2 and 3.
AIRFLOW = "from airflow.providers.common.compat.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator"
#: Airflow 3.0 loads more for any operator.
AN_OPERATOR = f"{AIRFLOW}\nwith DAG('any', schedule=None): type('Any', (BaseOperator,), {{}})(task_id='any')"


def loaded_by(code: str, *, before: str = "") -> set[str]:
    """Run code in a fresh interpreter; return the top-level modules that it loads beyond those of ``before``."""
    script = (
        f"import sys, json\n{before}\nold = set(sys.modules)\n{code}\nprint(json.dumps(sorted(set(sys.modules) - old)))"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, env=os.environ, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


def top_level(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


class TestADagParseIsCheap:
    def test_operators_and_sensors_load_nothing_heavy(self) -> None:
        loaded = loaded_by(
            "import airflow_provider_kirin.operators.kirin, airflow_provider_kirin.sensors.kirin\n"
            "import airflow_provider_kirin.decorators.kirin, airflow_provider_kirin.links.kirin",
            before=AIRFLOW,
        )
        assert "airflow_provider_kirin.operators.kirin" in loaded
        assert not top_level(loaded) & (HEAVY | {"jsonschema"})
        assert not any("emulator" in name or "payloads" in name.split(".")[1:2] for name in loaded)

    def test_the_plugin_which_every_process_of_airflow_loads_brings_no_web_framework(self) -> None:
        loaded = loaded_by(
            "from airflow_provider_kirin.plugins.generation import KirinGenerationPlugin", before=AIRFLOW
        )
        assert not top_level(loaded) & (HEAVY | {"jsonschema", "fastapi", "sqlalchemy"})

    def test_operators_and_sensors_do_not_load_what_only_a_running_task_needs(self) -> None:
        loaded = loaded_by(
            "import airflow_provider_kirin.operators.kirin, airflow_provider_kirin.sensors.kirin",
            before=AIRFLOW,
        )
        running = (
            "hooks.kirin",
            "hooks.transport",
            "api.submission",
            "triggers.kirin",
            "api.polling",
            "api.images.integrity",
        )
        assert not loaded & {f"airflow_provider_kirin.{name}" for name in running}

    def test_making_an_operator_with_a_payload_loads_nothing_heavy(self) -> None:
        loaded = loaded_by(
            "from airflow_provider_kirin.operators.kirin import KirinSubmitOperator\n"
            "with DAG('d', schedule=None):\n"
            "    KirinSubmitOperator(task_id='s', payload={'image': 'https://h.example/a.png', 'prompt': 'x'})\n"
            "    try:\n"
            "        KirinSubmitOperator(task_id='t', payload={'image': 'https://h.example/a.png', 'promt': 'x'})\n"
            "    except ValueError as error: assert 'prompt' in str(error)\n"
            "    else: raise AssertionError('a typo was not found')\n",
            before=AN_OPERATOR,
        )
        assert not top_level(loaded) & HEAVY

    def test_the_pytest_plugin_which_every_run_of_pytest_loads_brings_nothing_along(self) -> None:
        loaded = loaded_by("import airflow_provider_kirin.testing", before="import pytest")
        assert loaded == {"airflow_provider_kirin", "airflow_provider_kirin.testing"}

    def test_the_kit_for_testing_dags_works_without_pytest(self) -> None:
        loaded = loaded_by(
            "from airflow_provider_kirin.testing import fast_retries\n"
            "import airflow_provider_kirin.testing.dag_run, airflow_provider_kirin.testing.emulator\n"
            "with fast_retries(): pass\n",
            before="",
        )
        assert "pytest" not in top_level(loaded)

    def test_the_provider_s_description_loads_nothing_at_all(self) -> None:
        loaded = loaded_by(
            "from airflow_provider_kirin.get_provider_info import get_provider_info; get_provider_info()"
        )
        assert not top_level(loaded) & (HEAVY | {"airflow", "jsonschema"})
        assert not any(
            name.startswith("airflow_provider_kirin.") for name in loaded - {"airflow_provider_kirin.get_provider_info"}
        )


def modules_of(room: str) -> list[str]:
    folder = PACKAGE / room
    return [
        ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(folder.rglob("*.py"))
    ]


def imports_of(path: Path) -> Iterator[str]:
    """Every absolute module name that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


#: The rooms of the package, in their order: a file imports only from its own room and from rooms above it.
ROOMS = (
    "exceptions",
    "get_provider_info",
    "compat",
    "api",
    "connection",
    "utils",
    "download",
    "hooks",
    "metrics",
    "state",
    "lineage",
    "retry_policy",
    "triggers",
    "links",
    "operators",
    "sensors",
    "decorators",
    "plugins",
    "cli",
    "payloads",
    "testing",
    "__main__",
)


def import_graph() -> dict[str, set[str]]:
    """Return what each module of the package imports of it: at the top, inside a function, for an annotation."""
    names = {f"{PACKAGE.name}.{name}": name for name in map(short_name, PACKAGE.rglob("*.py"))}
    graph: dict[str, set[str]] = {name: set() for name in names.values()}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found: list[str] = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                # What is imported is a module of the room, or something that the room itself shows.
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                found = [one if one in names else str(node.module) for one in inner]
            graph[short_name(path)] |= {names[one] for one in found if one in names}
    return graph


def short_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    return module.partition(".")[0]


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the sets of modules that reach each other."""

    def reached_from(start: str) -> set[str]:
        reached, ahead = set[str](), [start]
        while ahead:
            ahead += (new := graph[ahead.pop()] - reached)
            reached |= new
        return reached

    reached = {module: reached_from(module) for module in graph}
    found = {frozenset(one for one in reached[module] if module in reached[one]) for module in graph}
    return {circle for circle in found if circle}


class TestWalls:
    def test_a_file_imports_only_from_rooms_above_its_own(self) -> None:
        against = {
            (module, other)
            for module, others in import_graph().items()
            for other in others
            if room_of(module) not in ("__init__", "emulator")
            and ROOMS.index(room_of(other)) > ROOMS.index(room_of(module))
        }
        assert not against

    def test_no_two_modules_import_each_other(self) -> None:
        assert not circles(import_graph())

    def test_the_contributors_guide_names_every_file_of_the_protocol(self) -> None:
        guide = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
        files = {path.name for path in (PACKAGE / "api").glob("*.py")} - {"__init__.py"}
        assert {name for name in files if f"`{name}`" not in guide} == set()

    def test_the_protocol_is_free_of_airflow_and_of_io(self) -> None:
        loaded = loaded_by(f"import importlib\nfor name in {modules_of('api')}: importlib.import_module(name)")
        assert set(modules_of("api")) <= loaded
        assert not top_level(loaded) & {"airflow", "requests", "aiohttp", "jsonschema", "PIL"}

    @pytest.mark.parametrize("path", sorted((PACKAGE / "api").rglob("*.py")), ids=lambda path: path.name)
    def test_the_protocol_imports_no_airflow_and_no_http_client_even_inside_a_function(self, path: Path) -> None:
        assert not top_level(set(imports_of(path))) & {"airflow", "requests", "aiohttp", "httpx", "urllib3"}

    def test_the_emulator_shares_no_code_with_the_client(self) -> None:
        for path in (PACKAGE / "emulator").rglob("*.py"):
            ours = {name for name in imports_of(path) if name.startswith("airflow_provider_kirin")}
            assert all(name.startswith("airflow_provider_kirin.emulator") for name in ours), path
            assert "airflow" not in top_level(set(imports_of(path))), path

    def test_nothing_imports_the_emulator(self) -> None:
        for path in PACKAGE.rglob("*.py"):
            if PACKAGE / "emulator" not in path.parents:
                assert not any(name.startswith("airflow_provider_kirin.emulator") for name in imports_of(path)), path


def parameters(path: str) -> dict[str, inspect.Parameter]:
    module, _, name = path.partition(":")
    found = importlib.import_module(f"airflow_provider_kirin.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    return {name: one for name, one in inspect.signature(found).parameters.items() if name != "self"}


class TestPublicSurface:
    """Names and signatures that DAGs rely on; a test that must change here is a breaking change."""

    @pytest.mark.parametrize(
        ("path", "names"),
        [
            ("operators.kirin:KirinSubmitOperator", {"payload", "model", "kirin_conn_id", "external_task_id"}),
            (
                "operators.kirin:KirinGenerateVideoOperator",
                {"destination", "timeout", "deferrable", "poll_interval", "overwrite"},
            ),
            ("operators.kirin:KirinDownloadOperator", {"kirin_task_id", "destination", "kirin_conn_id"}),
            (
                "sensors.kirin:KirinTaskSensor",
                {"kirin_task_id", "kirin_conn_id", "deferrable", "timeout", "poke_interval"},
            ),
        ],
    )
    def test_arguments_of_operators_are_keyword_only(self, path: str, names: set[str]) -> None:
        found = parameters(path)
        assert names <= set(found)
        assert all(found[name].kind is inspect.Parameter.KEYWORD_ONLY for name in names)

    @pytest.mark.parametrize(
        ("path", "names"),
        [
            ("hooks.kirin:KirinHook.submit", ["payload", "model"]),
            ("hooks.kirin:KirinHook.get_task", ["kirin_task_id"]),
            ("hooks.kirin:KirinHook.wait", ["kirin_task_id", "timeout", "poll_interval"]),
            ("hooks.kirin:KirinHook.download", ["url", "destination"]),
            ("hooks.kirin:KirinHook.test_connection", []),
            ("hooks.kirin:KirinAsyncHook.get_task", ["kirin_task_id"]),
            ("hooks.kirin:KirinAsyncHook.wait", ["kirin_task_id", "timeout", "poll_interval"]),
        ],
    )
    def test_methods_of_the_hooks(self, path: str, names: list[str]) -> None:
        found = parameters(path)
        assert [name for name in found if name in names] == names
        # Calls with these alone have to keep working.
        assert all(one.default is not inspect.Parameter.empty for name, one in found.items() if name not in names)

    @pytest.mark.parametrize(
        "path", ["operators.kirin:KirinSubmitOperator", "sensors.kirin:KirinTaskSensor", "hooks.kirin:KirinHook"]
    )
    def test_the_default_connection(self, path: str) -> None:
        assert parameters(path)["kirin_conn_id"].default == "kirin_default"

    @pytest.mark.parametrize("path", ["operators.kirin:KirinSubmitOperator", "hooks.kirin:KirinHook.submit"])
    def test_the_default_model(self, path: str) -> None:
        assert parameters(path)["model"].default == "kirin_v1_6_i2v"

    @pytest.mark.parametrize(
        ("path", "templated"),
        [
            ("operators.kirin:KirinSubmitOperator", {"payload", "model", "kirin_conn_id", "external_task_id"}),
            ("operators.kirin:KirinGenerateVideoOperator", {"payload", "model", "kirin_conn_id", "destination"}),
            ("operators.kirin:KirinDownloadOperator", {"kirin_task_id", "destination", "kirin_conn_id"}),
            ("sensors.kirin:KirinTaskSensor", {"kirin_task_id", "kirin_conn_id"}),
        ],
    )
    def test_what_a_user_may_want_a_template_for(self, path: str, templated: set[str]) -> None:
        module, _, name = path.partition(":")
        operator = getattr(importlib.import_module(f"airflow_provider_kirin.{module}"), name)
        assert templated <= set(operator.template_fields)

    def test_airflow_s_own_names_stay_airflow_s(self) -> None:
        for path in ("operators.kirin:KirinSubmitOperator", "sensors.kirin:KirinTaskSensor"):
            assert not {"params", "task_id"} & set(parameters(path))

    def test_fields_of_a_task(self) -> None:
        from airflow_provider_kirin.api.task import KirinTask, KirinTaskError, KirinUsage, KirinVideo

        public = {"id", "status", "model", "created_at", "progress", "videos", "usage", "error", "metadata"}
        assert {*public, "external_task_id"} == set(KirinTask("a", "in_progress").to_dict())
        assert {*public, "external_task_id"} <= set(KirinTask.__dataclass_fields__)
        assert list(KirinVideo.__dataclass_fields__) == ["url", "type", "duration", "job_id"]
        assert list(KirinUsage.__dataclass_fields__) == ["cost", "discount"]
        assert list(KirinTaskError.__dataclass_fields__) == ["code", "message"]

    def test_the_package_says_that_it_is_typed(self) -> None:
        assert (PACKAGE / "py.typed").is_file()


TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("file", sorted(TESTS.rglob("*.py")), ids=lambda file: str(file.relative_to(TESTS)))
def test_tests_share_only_what_is_in_support(file: Path) -> None:
    tree = ast.parse(file.read_text())
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in imported if name.startswith("tests.") and not f"{name}.".startswith("tests.support.")]
