"""What Airflow reads of this provider is valid by Airflow's own schemas, and leads to things that are there."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, validators

import airflow_provider_kirin
from airflow_provider_kirin.get_provider_info import get_provider_info


@pytest.fixture(scope="module")
def info() -> dict[str, Any]:
    return get_provider_info()


@pytest.fixture
def connection_type(info: dict[str, Any]) -> dict[str, Any]:
    (connection_type,) = info["connection-types"]
    return connection_type


def schema(name: str) -> dict[str, Any]:
    file = files("airflow").joinpath(name)
    if not file.is_file():
        pytest.skip(f"this Airflow has no {name}")
    return json.loads(file.read_text(encoding="utf-8"))


def test_provider_info_is_valid_by_the_schema_of_airflow_at_run_time(info: dict[str, Any]) -> None:
    rules = schema("provider_info.schema.json")
    validators.validator_for(rules)(rules).validate(info)


def test_its_connection_type_is_valid_by_the_stricter_schema_of_airflow_s_own_providers(info: dict[str, Any]) -> None:
    rules = schema("provider.yaml.schema.json")
    part = {**rules["properties"]["connection-types"], "definitions": rules.get("definitions", {})}
    if "conn-fields" not in part["items"]["properties"]:
        pytest.skip("this Airflow knows no connection form in the provider's description")
    Draft7Validator(part).validate(info["connection-types"])
    assert part["items"]["properties"]["ui-field-behaviour"]


def test_its_version_is_the_package_s(info: dict[str, Any]) -> None:
    assert info["versions"] == [airflow_provider_kirin.__version__] == [version("airflow-provider-kirin")]
    assert info["package-name"] == "airflow-provider-kirin"


def test_its_logo_and_guides_are_in_the_checkout(info: dict[str, Any]) -> None:
    root = Path(__file__).parents[2]
    if not (root / "docs").is_dir():
        pytest.skip("this is no checkout")
    (integration,) = info["integrations"]
    paths = [f"docs{integration['logo']}", *integration["how-to-guide"]]
    assert [path for path in paths if not (root / path.lstrip("/")).is_file()] == []


def test_airflow_finds_it_by_the_entry_point() -> None:
    found = [
        entry
        for entry in entry_points(group="apache_airflow_provider")
        if entry.value.startswith("airflow_provider_kirin")
    ]
    assert {entry.load() for entry in found} == {get_provider_info}


def named_modules(info: dict[str, Any]) -> Iterator[str]:
    for key in ("operators", "sensors", "hooks", "triggers"):
        for entry in info[key]:
            yield from entry["python-modules"]


def named_classes(value: Any) -> Iterator[str]:
    """Every dotted path that ends in a class, wherever it stands."""
    if isinstance(value, dict):
        for item in value.values():
            yield from named_classes(item)
    elif isinstance(value, list):
        for item in value:
            yield from named_classes(item)
    elif (
        isinstance(value, str)
        and value.startswith("airflow_provider_kirin.")
        and value.rpartition(".")[2][:1].isupper()
    ):
        yield value


@pytest.mark.parametrize("module", list(named_modules(get_provider_info())))
def test_every_module_that_it_names_imports(module: str) -> None:
    importlib.import_module(module)


@pytest.mark.parametrize("path", sorted(set(named_classes(get_provider_info()))))
def test_every_class_that_it_names_is_there(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type)


def test_its_commands_are_commands_of_airflow_s_command_line(info: dict[str, Any]) -> None:
    from airflow.cli.cli_config import ActionCommand, GroupCommand

    (path,) = info["cli"]
    module, _, name = path.rpartition(".")
    (group,) = getattr(importlib.import_module(module), name)()
    assert isinstance(group, GroupCommand) and group.name == "kirin"
    commands = {command.name: command for command in group.subcommands}
    names = "batch costs download list models plan price status submit validate version wait"
    assert set(commands) == set(names.split())
    for command in commands.values():
        assert isinstance(command, ActionCommand)
        assert callable(getattr(importlib.import_module("airflow_provider_kirin.cli.commands"), command.func.__name__))


def test_its_task_decorator_is_there_and_is_the_one_that_airflow_finds(info: dict[str, Any]) -> None:
    from airflow.providers.common.compat.sdk import task

    from airflow_provider_kirin.decorators.kirin import kirin_task

    (entry,) = info["task-decorators"]
    module, _, name = entry["class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is kirin_task
    assert getattr(task, entry["name"]) is kirin_task


def test_the_links_that_it_names_are_those_of_the_operators(info: dict[str, Any]) -> None:
    from airflow_provider_kirin.operators import kirin

    links = {type(link) for name in kirin.__dict__.values() for link in getattr(name, "operator_extra_links", ())}
    assert {f"{link.__module__}.{link.__name__}" for link in links} == set(info["extra-links"])


@pytest.mark.parametrize("name", ["KirinHook", "KirinAsyncHook", "KirinBatchOperator", "KirinTaskSensor"])
def test_it_names_the_module_that_a_user_imports(info: dict[str, Any], name: str) -> None:
    assert any(hasattr(importlib.import_module(module), name) for module in named_modules(info))


def test_every_integration_that_it_names_is_described(info: dict[str, Any]) -> None:
    described = {entry["integration-name"] for entry in info["integrations"]}
    for key in ("operators", "sensors", "hooks", "triggers"):
        assert {entry["integration-name"] for entry in info[key]} <= described


def test_provider_info_is_a_new_object_for_each_caller() -> None:
    get_provider_info()["versions"].append("broken")
    get_provider_info()["connection-types"][0].clear()
    assert get_provider_info()["versions"] == [airflow_provider_kirin.__version__]
    assert get_provider_info()["connection-types"][0]["connection-type"] == "kirin"


class TestConnectionForm:
    def test_connection_form_belongs_to_the_hook(self, connection_type: dict[str, Any]) -> None:
        from airflow_provider_kirin.hooks.kirin import KirinHook

        assert connection_type["connection-type"] == KirinHook.conn_type == "kirin"
        assert connection_type["hook-name"] == KirinHook.hook_name
        assert connection_type["hook-class-name"] == "airflow_provider_kirin.hooks.kirin.KirinHook"
        assert KirinHook.default_conn_name == "kirin_default"
        assert KirinHook.conn_name_attr == "kirin_conn_id"

    def test_connection_form_labels_the_api_key_and_hides_unused_fields(self, connection_type: dict[str, Any]) -> None:
        behaviour = connection_type["ui-field-behaviour"]
        assert behaviour["relabeling"]["password"] == "API Key"
        assert set(behaviour["hidden-fields"]) >= {"login"}
        assert not {"host", "password", "extra"} & set(behaviour["hidden-fields"])
        assert behaviour["placeholders"]["host"] == "https://cloud.vtrix.ai"

    def test_the_placeholder_of_the_extra_is_an_extra_that_works(self, connection_type: dict[str, Any]) -> None:
        from airflow.models.connection import Connection

        from airflow_provider_kirin.connection import read_connection

        extra = json.loads(connection_type["ui-field-behaviour"]["placeholders"]["extra"])
        conn = Connection(conn_id="kirin_default", conn_type="kirin", password="sa-key")
        connection = read_connection(conn, extra)
        assert set(extra) == set(connection_type["conn-fields"])
        assert (connection.timeout, connection.verify, connection.requests_per_second) == (60.0, True, 10.0)

    def test_each_field_s_schema_is_a_schema(self, connection_type: dict[str, Any]) -> None:
        for field in connection_type["conn-fields"].values():
            Draft7Validator.check_schema(field["schema"])
            assert field["label"]
            assert field["description"]

    def test_airflow_2_gets_the_same_form_from_the_hook(self, connection_type: dict[str, Any]) -> None:
        from airflow_provider_kirin.hooks.kirin import KirinHook

        behaviour = connection_type["ui-field-behaviour"]
        assert KirinHook.get_ui_field_behaviour() == {
            "hidden_fields": behaviour["hidden-fields"],
            "relabeling": behaviour["relabeling"],
            "placeholders": behaviour["placeholders"],
        }
