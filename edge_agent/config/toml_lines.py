"""TOML lines: which line of a TOML text a key stands on, since `tomllib` does not say.

In: the text. Out: a line number for a path of keys. Never: judges the text; where it can't follow
(keys inside an inline table) it gives the line of the nearest key around them.
"""

from __future__ import annotations

import re
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str, ...]

_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEYS = rf"{_KEY_PART}(?:\s*\.\s*{_KEY_PART})*"
_TABLE = re.compile(rf"\s*(\[\[?)\s*({_KEYS})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_KEYS})\s*=(.*)")
_TOKEN = re.compile(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|#|[\[\]{}]')


class TomlLines:
    """Lines of one text, counted from 1; the text itself is line 1. The second `[[a]]` is a.1."""

    def __init__(self, text: str) -> None:
        self._lines: dict[KeyPath, int] = {(): 1}
        self._last_row: dict[KeyPath, int] = {}
        self._depth = 0
        self._quote = ""
        table: KeyPath = ()
        # Not splitlines(): neither TOML nor an editor counts a form feed as a new line.
        for number, line in enumerate(text.split("\n"), 1):
            if self._depth or self._quote:
                self._skip(line)
            elif found := _TABLE.match(line):
                table = self._opened(_split(found[2]), found[1] == "[[")
                self._lines.setdefault(table, number)
            elif found := _ASSIGNMENT.match(line):
                self._lines.setdefault(table + _split(found[1]), number)
                self._skip(found[2])

    def line(self, path: KeyPath) -> int:
        """The line of that key, or of the nearest table around it."""
        while path not in self._lines:
            inside = [line for known, line in self._lines.items() if known[: len(path)] == path]
            if inside:
                return min(inside)
            path = path[:-1]
        return self._lines[path]

    def _opened(self, keys: KeyPath, is_row: bool) -> KeyPath:
        """The table that a header opens: below an array it is in the array's last row."""
        path: KeyPath = ()
        for at, key in enumerate(keys, 1):
            path += (key,)
            if is_row and at == len(keys):
                self._last_row[path] = self._last_row.get(path, -1) + 1
            if path in self._last_row:
                path += (str(self._last_row[path]),)
        return path

    def _skip(self, rest: str) -> None:
        """Follows brackets and strings that go on over several lines."""
        at = 0
        while at < len(rest):
            if self._quote:
                end = rest.find(self._quote, at)
                if end < 0:
                    return
                at, self._quote = end + 3, ""
                continue
            found = _TOKEN.search(rest, at)
            if not found or found[0] == "#":
                return
            at = found.end()
            if found[0] in ('"""', "'''"):
                self._quote = found[0]
            elif found[0] in "[{":
                self._depth += 1
            elif found[0] in "]}":
                self._depth -= 1


def _split(keys: str) -> KeyPath:
    return tuple(part.strip("\"'") for part in re.findall(_KEY_PART, keys))
