"""Environment: variables like OTOLITH__MQTT__HOST over the file's values.

In: variables, and the document that they change. Out: the changes, and what is wrong with them.
Never: adds a board or an asset (a typo must not make one), takes a secret.

Two underscores go one table deeper. Keys are in upper case; a name of the file, too, with _ for -,
or just as it is there. A value is read as TOML if it is a number, true, false or a list, and
the key isn't one for text; otherwise it is the text itself.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from edge_agent.config.keys import ROOT, Node, node_below
from edge_agent.config.problems import Problem, is_secret, near
from edge_agent.config.toml_lines import KeyPath

PREFIX = "OTOLITH__"
SEPARATOR = "__"
NO_SECRETS = (
    "no secret in the environment, where it can be read: put it alone into a file that only the "
    "service may read and name that in OTOLITH__MQTT__PASSWORD_FILE, or give it to systemd as "
    "LoadCredential=mqtt-password:FILE"
)


class Override(NamedTuple):
    """One value that a variable gives."""

    path: KeyPath
    value: Any
    variable: str


def read_environment(
    environment: Mapping[str, str], document: Mapping[str, Any]
) -> tuple[list[Override], list[Problem]]:
    """What the variables change, and those that can't be used."""
    found: dict[KeyPath, Override] = {}
    problems: list[Problem] = []
    for variable in sorted(name for name in environment if name.startswith(PREFIX)):
        text = environment[variable]
        path, node, rest = _resolved(variable[len(PREFIX) :], document)
        if rest or node.is_table:
            problems.append(Problem((), None, _unknown(variable, path, rest, document), variable))
        elif path in found:
            told = f"is given by {found[path].variable} already"
            problems.append(Problem(path, None, told, variable))
        elif not _is_unicode(text):
            problems.append(Problem(path, None, "not UTF-8 text", variable))
        else:
            found[path] = Override(path, _value(text, node), variable)
    return list(found.values()), problems


def overridden(document: Mapping[str, Any], overrides: list[Override]) -> dict[str, Any]:
    """A document with these values; where a table should be and isn't, the file stays as it is."""
    changed: dict[str, Any] = _copy(document)
    for path, value, _ in overrides:
        table: Any = changed
        for key in path[:-1]:
            table = table.setdefault(key, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table[path[-1]] = value
    return changed


def variable_of(path: KeyPath) -> str:
    """How the variable of a key is written."""
    return PREFIX + SEPARATOR.join(path).upper().replace("-", "_")


def _resolved(rest: str, document: Mapping[str, Any]) -> tuple[KeyPath, Node, str]:
    """The key as far as it is known, what belongs there, and what is left over."""
    path: KeyPath = ()
    node, table = ROOT, document
    while rest and node.is_table:
        key = _key(rest, _choices(node, table))
        below = node_below(node, key) if key else None
        if not key or not below:
            break
        path, node, rest = (*path, key), below, rest[len(key) + len(SEPARATOR) :]
        inside = table.get(key)
        table = inside if isinstance(inside, dict) else {}
    return path, node, rest


def _key(rest: str, choices: list[str]) -> str | None:
    """Which of them the text begins with: just as it is, else in upper case; the longest."""
    as_is = [key for key in choices if (rest + SEPARATOR).startswith(key + SEPARATOR)]
    spelled = rest.lower().replace("-", "_") + SEPARATOR
    upper = [
        key for key in choices
        if spelled.startswith(key.lower().replace("-", "_") + SEPARATOR)
    ]  # fmt: skip
    fitting = as_is or upper
    longest = max(map(len, fitting), default=0)
    fitting = [key for key in fitting if len(key) == longest]
    return fitting[0] if len(fitting) == 1 else None


def _choices(node: Node, table: Mapping[str, Any]) -> list[str]:
    """The keys of a section, or the names that the file has."""
    if node.named:
        return list(table)
    return list(node.section.model_fields) if node.section else []


def _unknown(variable: str, path: KeyPath, rest: str, document: Mapping[str, Any]) -> str:
    seen = variable[len(PREFIX) :]
    last = seen.rpartition(SEPARATOR)[2]
    if is_secret(last):
        return NO_SECRETS
    if rest:
        every = [variable_of(known)[len(PREFIX) :] for known in _all(ROOT, document)]
        same_key = [name for name in every if name.rpartition(SEPARATOR)[2] == last.upper()]
        only = same_key[0] if len(same_key) == 1 else None
        meant = near(seen, same_key) or only or near(seen, every)
        if meant == seen.upper():
            return "fits several names that differ in - and _ only: write them as in the file"
        if meant:
            return f"unknown variable; did you mean {PREFIX}{meant}?"
    allowed = ", ".join(_below(path, document))
    what = "unknown variable" if rest else "a whole table can't be given"
    return f"{what}; there is {allowed or 'nothing like it'}"


def _below(path: KeyPath, document: Mapping[str, Any]) -> list[str]:
    """What may come next: variables, or with a star the beginnings of some."""
    node, table = ROOT, document
    for key in path:
        inside = table.get(key)
        node, table = node_below(node, key) or node, inside if isinstance(inside, dict) else {}
    told = []
    for key in _choices(node, table):
        below = node_below(node, key)
        told.append(variable_of((*path, key)) + ("__*" if below and below.is_table else ""))
    return told


def _all(node: Node, table: Mapping[str, Any], path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key that a variable can give."""
    for key in _choices(node, table):
        below, inside = node_below(node, key), table.get(key)
        if below and below.is_table:
            yield from _all(below, inside if isinstance(inside, dict) else {}, (*path, key))
        elif below:
            yield (*path, key)


def _value(text: str, node: Node) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value = parsed["value"] if parsed.keys() == {"value"} else text
    if isinstance(value, list | str):
        return value
    return value if isinstance(value, int | float) and not node.text else text


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _copy(value: Any) -> Any:
    return {key: _copy(each) for key, each in value.items()} if isinstance(value, dict) else value
