"""The commands and their arguments, as Airflow's command line takes them. Each ``airflow ...`` loads this."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

from airflow_provider_kirin.api.models import DEFAULT_MODEL
from airflow_provider_kirin.hooks import DEFAULT_CONN_ID

_CONN_ID = Arg(("--conn-id",), default=DEFAULT_CONN_ID, help="Airflow connection of type kirin (default: %(default)s)")
_VERBOSE = Arg(("-v", "--verbose"), action="store_true", help="show logs, and a traceback where something fails")
_FILE = Arg(("payload",), help="the model's parameters: a JSON or YAML file, - for standard input")
_MODEL = Arg(("-m", "--model"), default=DEFAULT_MODEL, help="the model's id (default: %(default)s)")
_ID = Arg(("kirin_task_id",), help="a Kirin task id or an external task id")


def _command(name: str, help_: str, *args: Arg, description: str | None = None) -> ActionCommand:
    func = lazy_load_command(f"airflow_provider_kirin.cli.commands.{name}")
    return ActionCommand(name=name, help=help_, func=func, args=(*args, _VERBOSE), description=description)


_VALIDATE = _command(
    "validate",
    "Check a payload and its images; sends nothing",
    _FILE,
    _MODEL,
    description="Check a payload as an operator would, images and all. Needs no connection, and sends nothing.",
)
_SUBMIT = _command(
    "submit",
    "Start a generation; costs money",
    _FILE,
    _MODEL,
    _CONN_ID,
    Arg(("--external-task-id",), help="your own id, unique for the account; without it one is made"),
    Arg(("-y", "--yes"), action="store_true", help="do not ask before paying"),
    description=(
        "Start a generation and print its Kirin task id. It looks for the external task id first: what is there is "
        "adopted, not paid again. Where a reply is lost it says which id to look for."
    ),
)
_STATUS = _command(
    "status",
    "Show what became of a generation",
    _ID,
    _CONN_ID,
    Arg(
        ("-o", "--output"), choices=("text", "json"), default="text", help="json holds the signed links, text does not"
    ),
)
_DOWNLOAD = _command(
    "download",
    "Copy the videos of a finished generation",
    _ID,
    Arg(("destination",), help="a folder, a file name that ends with .mp4, or a storage URI"),
    _CONN_ID,
    Arg(("--no-overwrite",), action="store_true", help="leave a file that is there alone"),
)
_COSTS = _command(
    "costs",
    "Sum what generations have cost",
    Arg(("--dag-id",), help="only what this DAG bought"),
    Arg(("--run-id",), help="only what this DAG run bought"),
    Arg(("--from",), dest="from_", metavar="DATE", help="only what ended on this day (UTC) or later: 2026-11-25"),
    Arg(("--to",), metavar="DATE", help="only what ended on this day (UTC) or earlier"),
    Arg(("--by",), default="dag,task", metavar="FIELDS", help="some of dag,run,task,model,day (default: %(default)s)"),
    Arg(("-o", "--output"), choices=("table", "json", "csv"), default="table", help="(default: %(default)s)"),
    Arg(("--ask",), action="store_true", help="ask Kirin about generations whose cost is not on record; free"),
    description=(
        "Sum, to the cent, what the generations of this deployment have cost, each counted once. Reads Airflow's "
        "metadata database: XComs and, from Airflow 3.3, the task state store."
    ),
)


def get_kirin_cli_commands() -> list[GroupCommand]:
    """Return what Airflow adds to its command line, named in the provider's description under ``cli``."""
    return [
        GroupCommand(
            name="kirin",
            help="Validate, submit, follow and download Kirin generations, and sum their costs",
            subcommands=(_VALIDATE, _SUBMIT, _STATUS, _DOWNLOAD, _COSTS),
        )
    ]
