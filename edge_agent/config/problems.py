"""Problems: what is wrong with a configuration, and where.

In: lines or variables, keys and words. Out: one `ConfigError` with all of them, each as
`file:line: key: words`. Never: shows a secret, or a whole table of somebody's.
"""

from __future__ import annotations

import datetime
import difflib
import re
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.config.toml_lines import KeyPath

PROBLEMS_TOLD = 100
VALUE_CHARACTERS = 80
_SECRET = re.compile(r"passw|passphrase|secret|token|api_?key|private_?key|credential", re.I)
_LOGIN = re.compile(r"(?<=//)[^/@]*@|^[^/@:]*:[^/@]*@")


class Problem(NamedTuple):
    """One thing that is wrong: in a line of the file, or in a variable of the environment."""

    path: KeyPath
    line: int | None
    text: str
    variable: str = ""


class ConfigError(ValueError):
    """The file can't be used; `problems` are all of them, in the order of their lines, those of
    the environment last. The text of the error has the first hundred."""

    def __init__(self, file: Path, problems: list[Problem]) -> None:
        self.file = file
        self.problems = sorted(problems, key=lambda p: (p.line is None, p.line or 0, p.variable))
        lines = [self._line(problem) for problem in self.problems[:PROBLEMS_TOLD]]
        if len(problems) > PROBLEMS_TOLD:
            lines.append(f"... and {len(problems) - PROBLEMS_TOLD} more")
        super().__init__("\n".join(lines))

    def _line(self, problem: Problem) -> str:
        where = f"{self.file}:{problem.line}" if problem.line else problem.variable
        key = ".".join(problem.path)
        line = f"{where}: {key}: {problem.text}" if key else f"{where}: {problem.text}"
        # A quoted key may be anything, also what moves a cursor or looks like a line of ours.
        return "".join(c if c.isprintable() else "?" for c in line)


def shown(value: Any) -> str:
    """A value as people wrote it, in a few characters, and without what may be a secret."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        return "a list of tables" if isinstance(value[0], dict) else "a list of lists"
    if isinstance(value, datetime.date | datetime.time):
        return f"the date or time {value}"
    text = repr(_LOGIN.sub("...@", value) if isinstance(value, str) else value)
    return text if len(text) <= VALUE_CHARACTERS else text[: VALUE_CHARACTERS - 3] + "..."


def is_secret(key: str) -> bool:
    """Whether a key of this name would hold a secret itself; a file's name is none."""
    return bool(_SECRET.search(key)) and not key.lower().endswith(("_file", "keys"))


def near(seen: str, known: list[str]) -> str | None:
    """The one that was probably meant: much alike, or the only one that begins so."""
    lower = {name.lower(): name for name in known}
    begun = [name for name in lower if len(seen) > 2 and name.startswith(seen.lower())]
    found = difflib.get_close_matches(seen.lower(), lower, 1, 0.6) or begun
    return lower[found[0]] if len(found) == 1 else None


def did_you_mean(seen: str, known: list[str]) -> str:
    """`did you mean x?` for a near miss, else what there is."""
    meant = near(seen, known)
    if meant:
        return f"did you mean {meant}?"
    return f"allowed: {', '.join(known)}" if known else "there is none"
