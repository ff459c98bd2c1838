"""Read a payload from a file or standard input: JSON or YAML, in UTF-8, UTF-16 or UTF-32."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow_provider_kirin.api.payload.paths import MAX_VALUES, is_larger_than
from airflow_provider_kirin.cli._runner import fail

#: A payload with a few images in Base64 is far shorter; an endless file must not fill the memory.
_MAX_BYTES = 256 * 1024 * 1024


def read_payload(name: str) -> Any:
    """Return the parsed contents of a file.

    :param name: the file's path, or ``-`` for standard input
    """
    text = _decode(name, _read(name))
    try:
        return json.loads(text)
    except RecursionError:
        fail(f"{name} is nested too deeply.")
    except json.JSONDecodeError:
        return _read_yaml(name, text)
    except ValueError as error:
        # An integer of thousands of digits.
        fail(f"{name} cannot be read: {error}.")


def _read(name: str) -> bytes:
    if name == "-":
        raw = sys.stdin.buffer.read(_MAX_BYTES + 1)
    else:
        try:
            with Path(name).expanduser().open("rb") as file:
                raw = file.read(_MAX_BYTES + 1)
        except OSError as error:
            fail(f"{name} cannot be read: {error.strerror}.")
    if len(raw) > _MAX_BYTES:
        fail(f"{name} is longer than {_MAX_BYTES:,} bytes.")
    return raw


def _decode(name: str, raw: bytes) -> str:
    # As the JSON standard defines it: by the byte order mark, or by the zero bytes in the first characters.
    encoding = json.detect_encoding(raw)
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        fail(
            f"{name} is not text in {encoding.upper()}: byte 0x{raw[error.start]:02X} at position {error.start} "
            "cannot be decoded. Save the file as UTF-8."
        )


def _read_yaml(name: str, text: str) -> Any:
    # Airflow itself depends on it.
    import yaml  # type: ignore[import-untyped]

    # Not the C loader, which crashes the process if a file is nested deeply enough.
    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        nodes = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            # Each node takes a tenth of a millisecond and half a kilobyte.
            self.nodes += 1
            if self.nodes > 2 * MAX_VALUES:
                raise _TooManyValues
            return super().compose_node(parent, index)

    try:
        loader = Loader(text)
        root = loader.get_single_node()
        # Aliases of aliases grow exponentially when they are expanded, and merge keys copy them.
        if is_larger_than(MAX_VALUES, root, _children):
            raise _TooManyValues
        return None if root is None else loader.construct_document(root)
    except _TooManyValues:
        fail(f"{name} holds more than {MAX_VALUES:,} values, each alias counted in full.")
    except yaml.YAMLError as error:
        fail(f"{name} is neither JSON nor YAML: {error}")
    except RecursionError:
        fail(f"{name} is nested too deeply.")
    except (ValueError, KeyError) as error:
        # A value that is not of its type, such as the date 2026-99-99.
        fail(f"{name} is not valid YAML: {type(error).__name__}: {error}")


class _TooManyValues(Exception):
    """The file is too large to be a payload."""


def _children(node: Any) -> Any:
    """Return the child nodes of a YAML node; those of a mapping are pairs."""
    if isinstance(node, tuple):
        return node
    return node.value if isinstance(getattr(node, "value", None), list) else ()
