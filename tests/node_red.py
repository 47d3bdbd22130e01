"""Node-RED's flow of `systemd/examples/`: its nodes and wires, what its buttons send, and the
program itself where it is installed.

Debian has no Node-RED, so of its nodes `inject`, `switch` and `change` are followed here, as far as
the flow uses them; what isn't known is an error.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import free_port

Node = dict[str, Any]
SECONDS = 60.0
SETTINGS = "module.exports = {{ uiHost: '127.0.0.1', uiPort: {port}, flowFile: 'flow.json' }};\n"


class Flow:
    """The nodes of one file, and the context that they share."""

    def __init__(self, file: Path) -> None:
        self.nodes: list[Node] = json.loads(file.read_text())
        self.by_id: dict[str, Node] = {node["id"]: node for node in self.nodes}
        self.context: dict[str, Any] = {}

    def of(self, type_: str) -> list[Node]:
        """All nodes of a type."""
        return [node for node in self.nodes if node["type"] == type_]

    def receive(self, topic: str, payload: dict[str, Any]) -> list[Node]:
        """A message from the broker, at the events' node; gives the last nodes that it came to."""
        (entry,) = [node for node in self.of("mqtt in") if node["topic"].endswith("/event")]
        return [node for node, _ in self._pass_on(entry, 0, {"topic": topic, "payload": payload})]

    def press(self, button: Node) -> list[tuple[Node, dict[str, Any]]]:
        """The last nodes that a button's message comes to, and the message there."""
        assert (button["payloadType"], button["props"]) == (
            "json", [{"p": "payload"}, {"p": "topic", "vt": "str"}],
        )  # fmt: skip
        message = {"topic": button["topic"], "payload": json.loads(button["payload"])}
        return self._pass_on(button, 0, {**message, "_msgid": "0123456789abcdef"})

    def _pass_on(
        self, node: Node, output: int, message: dict[str, Any]
    ) -> list[tuple[Node, dict[str, Any]]]:
        ends = []
        for name in node["wires"][output]:
            ends += self._take(self.by_id[name], json.loads(json.dumps(message)))
        return ends

    def _take(self, node: Node, message: dict[str, Any]) -> list[tuple[Node, dict[str, Any]]]:
        if node["type"] == "switch":
            output = self._chosen(node, message)
            return [] if output is None else self._pass_on(node, output, message)
        for rule in node["rules"] if node["type"] == "change" else []:
            self._change(rule, message)
        if not any(node["wires"]):
            return [(node, message)]
        assert node["type"] in ("change", "template"), node["type"]
        return self._pass_on(node, 0, message)

    def _chosen(self, node: Node, message: dict[str, Any]) -> int | None:
        """The first rule that fits, as `checkall: false` says."""
        assert node["checkall"] == "false"
        value = self._read(node["propertyType"], node["property"], message)
        fitting = (place for place, rule in enumerate(node["rules"]) if _fits(rule, value))
        return next(fitting, None)

    def _change(self, rule: Node, message: dict[str, Any]) -> None:
        value = self._read(rule["tot"], rule["to"], message)
        if rule["t"] == "change":
            pattern = rule["from"] if rule["fromt"] == "re" else re.escape(rule["from"])
            value = re.sub(pattern, value, self._read(rule["pt"], rule["p"], message))
        else:
            assert rule["t"] == "set"
        place = {"msg": message, "flow": self.context}[rule["pt"]]
        *path, name = rule["p"].split(".")
        for key in path:
            place = place[key]
        place[name] = value

    def _read(self, kind: str, path: str, message: dict[str, Any]) -> Any:
        if kind == "str":
            return path
        value: Any = {"msg": message, "flow": self.context}[kind]
        for key in path.split("."):
            value = value.get(key)
        return value


def _fits(rule: Node, value: Any) -> bool:
    kind = rule["t"]
    if kind in ("eq", "gte"):
        return bool(value == rule["v"] if kind == "eq" else value >= float(rule["v"]))
    assert kind in ("nnull", "else"), kind
    return kind == "else" or value is not None


class NodeRed:
    """A running Node-RED."""

    def __init__(self, port: int, log: Path) -> None:
        self._url, self._log = f"http://127.0.0.1:{port}", log

    def said(self) -> str:
        """Its journal, with what the debug nodes print there."""
        return self._log.read_text()

    def alive(self) -> bool:
        """Whether it has started its flows."""
        try:
            with urllib.request.urlopen(f"{self._url}/flows", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def press(self, button: Node) -> None:
        """As the button in the editor."""
        with urllib.request.urlopen(f"{self._url}/inject/{button['id']}", b"", timeout=10) as done:
            assert done.status == 200


@contextmanager
def node_red(program: str, folder: Path, nodes: list[Node]) -> Iterator[NodeRed]:
    """The program with these nodes, and nobody else's settings."""
    port, log = free_port(), folder / "node-red.log"
    (folder / "flow.json").write_text(json.dumps(nodes))
    (folder / "settings.js").write_text(SETTINGS.format(port=port))
    with log.open("wb") as output:
        child = subprocess.Popen(
            [program, "--userDir", folder, "--settings", folder / "settings.js"],
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        running, deadline = NodeRed(port, log), time.monotonic() + SECONDS
        while "Started flows" not in running.said() or not running.alive():
            assert child.poll() is None, running.said()
            assert time.monotonic() < deadline, running.said()
            time.sleep(0.1)
        yield running
    finally:
        child.terminate()
        child.wait()
