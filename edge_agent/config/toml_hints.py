"""TOML hints: what a person probably did when a text is no TOML.

In: the parser's message and the line. Out: a sentence. Never: shows the line, it may hold a secret.
"""

from __future__ import annotations

import re

# The first that fits is told; the value is what stands right of the first `=`.
_LINES = (
    (r"\s*[{}]", "this looks like JSON: write [table] and key = value"),
    (r"\s*;", "a comment begins with #"),
    (r"[^#\"']*[\u201c\u201d\u201e\u2018\u2019]", 'typographic quotes: use straight ones, "'),
    (r"\s*-\s", "this looks like YAML: write [table] and key = value"),
    (
        r"\s*[\w.-]+\s*:(\s|$)",
        "this looks like YAML: write key = value, and [table] above the keys",
    ),
    (r"\s*\[[^\]\"']*[^\]\s\"'\w.-]", "a name may only have letters a-z, digits, - and _"),
    (r"\s*\[+[^\]\"']*\w\s+\w", "a name may not have a space: write - or _"),
    (r"\s*\[[^\]]*$", "] is missing"),
    (r"\s*[\w.-]+\s*={2,}", "one = is enough"),
    (r"\s*[\w.-]+\s*=\s*(#|$)", "there is no value: give one, or put # before the line"),
)
_VALUES = (
    (r"(?i)(true|yes|on|false|no|off)\b", "write true or false, in lower case"),
    (r"(?i)(null|none|nil)\b", "leave a key out that has no value"),
    (r'"[^"]*\\', "a backslash in double quotes begins a code: use single quotes, 'C:\\...'"),
    (r"""("[^"]*"|'[^']*'|[\w.+-]+)\s*,""", "no comma at the end of a line"),
    (r"[+-]?0\d", "a number may not begin with 0, and text needs quotes"),
    (r"""["'][^"']*$""", "the closing quote is missing"),
    (r"\d+([.,]\d+)?\s*[A-Za-z%]+", "a number stands alone: its unit is in the key's name"),
    (r"""[^\s"'\[{]""", 'text needs quotes, as in key = "text"'),
)


def hint(message: str, line: str) -> str:
    """What to do; empty if nothing comes to mind."""
    if "twice" in message or "overwrite" in message or "mutate" in message.lower():
        return "it is in the file already: put everything about it in one place"
    for pattern, told in _LINES:
        if re.match(pattern, line):
            return told
    value = line.partition("=")[2].strip()
    return next((told for pattern, told in _VALUES if re.match(pattern, value)), "")
