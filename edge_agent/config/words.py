"""Words: pydantic's errors as a technician would say them: what was seen, what is allowed.

In: one error of pydantic. Out: a key and a line. Never: a pattern or a class name, if it can say
what they mean.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import ErrorDetails

from edge_agent.config.keys import ANY_NAME, ROW, Node, all_keys, known_keys, node_at
from edge_agent.config.problems import did_you_mean, is_secret, shown
from edge_agent.config.settings import PATTERNS, SCHEMA_VERSION
from edge_agent.config.toml_lines import KeyPath

HOMES_TOLD = 3
NO_SECRETS = (
    "no secret in here: put it alone into a file that only the service may read and name that in "
    "mqtt.password_file, or give it to systemd as LoadCredential=mqtt-password:FILE"
)
_TYPES = {
    "int_type": "must be a whole number{range}, without quotes",
    "float_type": "must be a number{range}, without quotes",
    "bool_type": "must be true or false, without quotes",
    "string_type": "must be text in quotes",
    "path_type": "must be a path in quotes",
    "tuple_type": 'must be a list, as in ["one", "two"]',
    "greater_than": "must be{range}",
    "greater_than_equal": "must be{range}",
    "less_than": "must be{range}",
    "less_than_equal": "must be{range}",
    "finite_number": "must be{range}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
}
_TABLE_TYPES = ("dict_type", "model_type", "model_attributes_type")


def in_words(error: ErrorDetails) -> tuple[KeyPath, str]:
    """The key, what was seen, what is allowed."""
    path, kind, seen = key_path(error["loc"]), error["type"], error["input"]
    if kind == "extra_forbidden":
        return path, _unknown(path, seen)
    if kind == "missing":
        return path, _missing(path)
    if kind in ("value_error", "assertion_error") and isinstance(seen, dict):
        return path, _message(error)
    node = node_at(path)
    if kind == "tuple_type" and node and node.rows:
        return path, f"saw {shown(seen)}; write {header((*path, ROW))}, with double brackets"
    if kind in _TABLE_TYPES:
        return path, f"saw {shown(seen)}; {_no_table(path, seen)}"
    if "[key]" in error["loc"]:
        return path, f"the name {shown(seen)} {_allowed(error, path)}"
    return path, f"saw {shown(seen)}; {_allowed(error, path)}"


def key_path(loc: tuple[int | str, ...]) -> KeyPath:
    """pydantic's place as keys."""
    return tuple(str(part) for part in loc if part != "[key]")


def header(path: KeyPath) -> str:
    """How the table at `path` is written."""
    if path[-1] == ROW:
        return f"[[{'.'.join(path[:-1])}]]"
    return f"[{'.'.join(path)}]"


def _allowed(error: ErrorDetails, path: KeyPath) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_pattern_mismatch" and context["pattern"] in PATTERNS:
        return f"must be {PATTERNS[context['pattern']]}"
    if kind == "too_short" and known_keys((*path, ANY_NAME)):
        return f"needs at least one {header((*path, ANY_NAME))}"
    if path == ("schema_version",):
        return f"this edge-agent reads {SCHEMA_VERSION}: another file needs another edge-agent"
    if kind in _TYPES:
        return _TYPES[kind].format(range=_range(node_at(path)), **context)
    return _message(error)


def _message(error: ErrorDetails) -> str:
    """pydantic's own words, or those of a validator of ours."""
    told = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return told[0].lower() + told[1:]


def _range(node: Node | None) -> str:
    bounds = dict(node.bounds) if node else {}
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    if "ge" in bounds and "le" in bounds:
        return f" {bounds['ge']} to {bounds['le']}"
    told = " and ".join(f"{words[bound]} {limit}" for bound, limit in bounds.items())
    return f" {told}" if told else ""


def _missing(path: KeyPath) -> str:
    node = node_at(path)
    if node and node.section:
        return f"is missing: write {header((*path, ANY_NAME) if node.named else path)}"
    return "is missing; it must be given"


def _unknown(path: KeyPath, seen: Any) -> str:
    """A secret, a key of another table, a misspelt one."""
    *table, key = path
    if is_secret(key):
        return NO_SECRETS
    homes, is_table = _homes(key, isinstance(seen, dict))
    if homes:
        return f"unknown key here; {_belongs(tuple(table), homes, key if is_table else '')}"
    return f"unknown key; {did_you_mean(key, known_keys(tuple(table)))}"


def _homes(key: str, is_table: bool) -> tuple[list[KeyPath], bool]:
    """The tables that have such a key, and whether it is a table there. What is a table here is
    no value elsewhere; a value may be meant as either."""
    known = [(path[:-1], node.section is not None) for path, node in all_keys() if path[-1] == key]
    values = [home for home, section in known if not section and not is_table]
    return (values, False) if values else ([home for home, section in known if section], True)


def _belongs(table: KeyPath, homes: list[KeyPath], section: str) -> str:
    """Where that key would be right; the names around it stay what they are."""
    if homes[0] == () and section:
        named = known_keys((section, ANY_NAME))
        return f"write {header((section, ANY_NAME) if named else (section,))} on a line of its own"
    if homes[0] == ():
        return "it belongs at the top of the file, above the first [table]"
    places = [
        tuple(
            table[at] if key == ANY_NAME and at < len(table) and home[:at] == table[:at] else key
            for at, key in enumerate(home)
        )
        for home in homes[:HOMES_TOLD]
    ]
    if section:
        node = node_at((*places[0], section))
        rows = (ROW,) if node and node.rows else ()
        return f"it belongs in {header((*places[0], section, *rows))}"
    return f"it belongs in {' or '.join(map(header, places))}"


def _no_table(path: KeyPath, seen: Any) -> str:
    node, parent = node_at(path), node_at(path[:-1])
    if node and node.named:
        return f"each has a name of its own: write {header((*path, ANY_NAME))}"
    if isinstance(seen, list):
        return f"write {header(path)}, with single brackets"
    if parent and parent.named and path[-1] in known_keys(path):
        return f"write {header((*path[:-1], ANY_NAME))} above it instead of {header(path[:-1])}"
    return f"must be a table: write {header(path)}, and its keys below"
