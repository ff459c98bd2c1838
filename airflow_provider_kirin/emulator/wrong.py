"""What is wrong with one parameter, before it is known how its model says so."""

from __future__ import annotations


class Wrong(Exception):
    """A parameter that is refused.

    ``trouble`` names what some models have a code for: ``missing``, ``format``, ``ratio``, ``prompt``, ``duration``.
    """

    def __init__(self, name: str, text: str, trouble: str = "") -> None:
        super().__init__(name, text, trouble)
        self.name, self.text, self.trouble = name, text, trouble
