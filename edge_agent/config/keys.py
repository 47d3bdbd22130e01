"""Keys: which keys a configuration may have, read off the types of its settings.

In: a path of keys. Out: the section, the names or the value that belongs there. Never: keeps a
list of its own, so a new field of a section is known here, in errors and in overrides at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from edge_agent.config.settings import Config, Section
from edge_agent.config.toml_lines import KeyPath

# These stand for a name that the person chose, and for one of several rows.
ANY_NAME, ROW = "<name>", "[]"
BOUNDS = ("ge", "gt", "le", "lt")


class Node(NamedTuple):
    """What belongs at a key. `section` has keys of its own; `named` says that they are names that
    the person chose, each with such a section; `rows` that there are several, as in `[[rows]]`.
    Without a section it is a value: `text` if text may be one, between `bounds` if a number."""

    section: type[Section] | None
    named: bool = False
    rows: bool = False
    text: bool = False
    bounds: tuple[tuple[str, float], ...] = ()

    @property
    def is_table(self) -> bool:
        """Whether further keys may follow."""
        return self.section is not None and not self.rows


ROOT = Node(Config)


def node_at(path: KeyPath) -> Node | None:
    """What belongs at `path`; None for a key that there isn't."""
    node: Node | None = ROOT
    for key in path:
        node = node_below(node, key) if node else None
    return node


def node_below(node: Node, key: str) -> Node | None:
    """What belongs at `key` of that node."""
    if not node.section:
        return None
    if node.named or node.rows:
        return Node(node.section)
    field = node.section.model_fields.get(key)
    return _node(field.annotation, field.metadata) if field else None


def known_keys(path: KeyPath) -> list[str]:
    """The keys that the table at `path` may have; none if people choose them, or no table."""
    node = node_at(path)
    if not node or not node.section or node.named or node.rows:
        return []
    return list(node.section.model_fields)


@cache
def all_keys() -> tuple[tuple[KeyPath, Node], ...]:
    """Every key there is, tables before what is in them."""
    return tuple(_below((), ROOT))


def _below(path: KeyPath, node: Node) -> Iterator[tuple[KeyPath, Node]]:
    if not node.section:
        return
    fields = list(node.section.model_fields)
    for key in [ANY_NAME] if node.named else [ROW] if node.rows else fields:
        below = node_below(node, key)
        if below:
            yield (*path, key), below
            yield from _below((*path, key), below)


def _node(annotation: Any, metadata: list[Any]) -> Node:
    """`X | None` is as X, and a tuple or dict of sections is seen through."""
    parts = [*_flat(annotation), *metadata]
    origins = [get_origin(part) for part in parts]
    for part in parts:
        if isinstance(part, type) and issubclass(part, Section):
            return Node(part, named=dict in origins, rows=tuple in origins)
    bounds = tuple(
        (bound, getattr(part, bound)) for part in parts for bound in BOUNDS if hasattr(part, bound)
    )
    return Node(None, text=str in parts or Path in parts, bounds=bounds)


def _flat(annotation: Any) -> Iterator[Any]:
    """The type and all that it is made of."""
    yield annotation
    yield from getattr(annotation, "metadata", ())  # of a Field
    for part in get_args(annotation):
        yield from _flat(part)
