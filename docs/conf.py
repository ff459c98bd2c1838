"""Sphinx settings: ``make docs``."""

from __future__ import annotations

import logging
import re
from typing import Any

from airflow_provider_kirin import __version__

# Airflow tells where it read its configuration whenever it is imported.
logging.getLogger("airflow").setLevel(logging.WARNING)

project = "airflow-provider-kirin"
author = copyright = "the airflow-provider-kirin authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["kirin.css"]

# An argument a line: the operators have many.
python_maximum_signature_line_length = 80
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_default_options = {"members": True, "show-inheritance": True}

# Names that others document, or that only an annotation knows.
nitpick_ignore_regex = [
    (r"py:.*", r"airflow\..*"),
    (
        r"py:.*",
        r"airflow_provider_kirin\.(api|connection|download|lineage|links|plugins|state|triggers\.base|utils|retry_defaults|hooks\.(?!kirin)|operators\.(?!kirin))(\..*|\w.*)?",
    ),
    # The pages of the keys and the errors name functions and modules that have no page.
    (r"py:(func|mod)", r"[a-z_]+"),
    (r"py:.*", r"aiohttp\..*"),
    (r"py:.*", r"(pytest|requests)\..*"),
    (r"py:.*", r"(collections|contextlib|datetime|decimal|os|pathlib|types|typing|enum|dataclasses)\..*"),
    (
        r"py:(class|exc)",
        r"(Any|Asset|Context|DAG|DagRun|Exception|ObjectStoragePath|ValueError|Decimal|Path|PathLike|datetime|timedelta"
        r"|optional|AbstractContextManager|OnUnknownSubmit|OnBadRow|FitImages|KirinConnection|Poller|PreparedPayload"
        r"|SubmissionRecord|RunBudget)",
    ),
]


def for_sphinx(_: Any, __: str, source: list[str]) -> None:
    """Show what stands in a comment ``<!-- sphinx``, and drop what is for readers of the files themselves."""
    text = re.sub(r"<!-- forge -->\n.*?<!-- /forge -->\n", "", source[0], flags=re.DOTALL)
    source[0] = re.sub(r"<!-- sphinx\n(.*?)-->\n", r"\1", text, flags=re.DOTALL)


def setup(app: Any) -> None:
    """Connect the above."""
    app.connect("source-read", for_sphinx)
