"""InfluxDB 1.x on loopback, with a folder of its own: what Telegraf writes to and Grafana asks."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import free_port

SECONDS = 30.0
CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{backup_port}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
[monitor]
store-enabled = false
[subscriber]
enabled = false
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = false
"""


class Series(NamedTuple):
    """One series of an answer."""

    tags: dict[str, str]
    columns: list[str]
    values: list[list[Any]]


class Influx:
    """A client of one database."""

    def __init__(self, port: int, database: str) -> None:
        self._url, self._database = f"http://127.0.0.1:{port}", database

    def alive(self) -> bool:
        """Whether it answers."""
        try:
            self._ask("/ping")
        except urllib.error.URLError:
            return False
        return True

    def create(self) -> None:
        """The database, as Telegraf does."""
        self._ask("/query", b"", q=f'CREATE DATABASE "{self._database}"')

    def write(self, lines: list[str]) -> None:
        """Every line, or it is an error: of a wrong syntax, or of a field that changes its type."""
        self._ask("/write", "\n".join(lines).encode(), db=self._database)

    def query(self, statement: str) -> list[Series]:
        """The answer to one InfluxQL statement, times in ms."""
        answer = json.loads(self._ask("/query", q=statement, db=self._database, epoch="ms"))
        (result,) = answer["results"]
        assert "error" not in result, f"{statement}\n{result['error']}"
        return [
            Series(series.get("tags", {}), series["columns"], series["values"])
            for series in result.get("series", [])
        ]

    def _ask(self, path: str, body: bytes | None = None, **parameters: str) -> bytes:
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, body, timeout=10) as response:
                content: bytes = response.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        return content


@contextmanager
def influxd(program: str, folder: Path, database: str) -> Iterator[Influx]:
    """A server that is there when it is entered, and gone afterwards."""
    port, config = free_port(), folder / "influxdb.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, backup_port=free_port()))
    log = folder / "influxd.log"
    with log.open("wb") as output:
        child = subprocess.Popen([program, "-config", config], stdout=output, stderr=output)
    try:
        client, deadline = Influx(port, database), time.monotonic() + SECONDS
        while not client.alive():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        client.create()
        yield client
    finally:
        child.terminate()
        child.wait()
