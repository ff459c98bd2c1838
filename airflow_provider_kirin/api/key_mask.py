"""Mask the API key in text from outside: a gateway, or what stands before it, may repeat it in any notation."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

_MASK = "***"
#: A shorter key belongs to an emulator. It may be an ordinary word, or a part of one: "test", "airflow".
MIN_SECRET = 8
#: A key that is cut off is recognized by this many first characters, or by as many as are not another word's.
_HEAD, _CERTAIN = 12, 16


class KeyMask:
    """Replaces a key wherever it occurs: verbatim in any case, escaped, encoded, or cut off at the end.

    :param key: printable ASCII; one of up to three characters is not a secret, and is left alone
    """

    def __init__(self, key: str) -> None:
        self._key = key.lower()
        self._is_long = len(key) >= MIN_SECRET
        spelt = f"(?i:{''.join(map(_spellings_of, key))})"
        if self._is_long:
            forms = [spelt, *_base64_of(key), f"(?i:{key.encode().hex()})"]
        else:
            # As a whole word: ids such as "airflow-1" and paths keep their meaning.
            forms = [rf"(?:(?<![\w./-])|(?<=%20)){spelt}(?![\w/-]|\.\w)", *_base64_of(f"Bearer {key}")]
        self._pattern = re.compile("|".join(forms))
        self._cut = re.compile(re.escape(key[:_HEAD]), re.IGNORECASE)

    def __call__(self, text: str) -> str:
        """Return a string with the key masked.

        :param text: on its way to a log, an exception or Airflow's database
        """
        if len(self._key) <= 3:
            return text
        masked = self._pattern.sub(_MASK, text)
        return self._mask_cut(masked) if self._is_long and self._key[:_HEAD] in masked.lower() else masked

    def _mask_cut(self, text: str) -> str:
        """Mask what the key begins with, unless it is the beginning of another word."""
        parts, end = [], 0
        for match in self._cut.finditer(text):
            start, stop = match.span()
            while self._key[stop - start : stop - start + 1] == text[stop : stop + 1].lower() != "":
                stop += 1
            if start >= end and (stop - start >= _CERTAIN or not re.match(r"[\w-]", text[stop : stop + 1])):
                parts += [text[end:start], _MASK]
                end = stop
        return "".join([*parts, text[end:]])


def _spellings_of(char: str) -> str:
    """Return a pattern of what may stand for a character: verbatim, or escaped as in JSON, URLs, HTML and code."""
    from html.entities import html5

    plain, code = re.escape(char), ord(char)
    digits, names, itself = f"{code:02x}", "", ""
    if not char.isalnum():
        names = "".join(rf"|{name}" for name in html5 if html5[name] == char and name.endswith(";"))
        itself = f"|{plain}"
    # An escape sequence may itself have been escaped on the way.
    forms = [
        plain,
        rf"\\{{1,8}}(?:u(?:0{{0,6}}{digits}|\{{0*{digits}\}})|x{digits}|0?{code:o}{itself})",
        rf"%(?:25){{0,2}}(?:u00)?{digits}",
        rf"&(?:amp;){{0,2}}(?:#(?:0{{0,5}}{code}|x0{{0,5}}{digits});?{names})",
    ]
    return f"(?:{'|'.join(forms)})"


def _base64_of(text: str) -> Iterator[str]:
    """Yield patterns of a string in Base64, for each of the three ways in which a longer text may be aligned."""
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + text.encode()).decode()
        # Without the letters that depend on what stands before or after it.
        core = encoded[(offset * 8 + 5) // 6 : (offset + len(text)) * 8 // 6]
        yield core.replace("+", "[+-]").replace("/", r"(?:\\{0,8}/|_)")
