"""What other systems are given: one run of a live gateway, by telegraf.conf into a real InfluxDB,
out of it by every query of the Grafana dashboard; and the buttons of the Node-RED flow."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edge_agent.alarms.remote_requests import COMMANDS
from edge_agent.broker.contract import channels, documents
from edge_agent.config import load_config
from tests import programs
from tests.conftest import ROOT, Mosquitto
from tests.influx import Influx, influxd
from tests.node_red import Flow, node_red
from tests.subscriber import Subscriber
from tests.telegraf import Heard, Listener, Telegraf
from tests.test_service import BASE, PUMP, configure

pytestmark = pytest.mark.timeout(120)

EXAMPLES = ROOT / "systemd" / "examples"
TELEGRAF, FLOW = EXAMPLES / "telegraf.conf", EXAMPLES / "node-red-flow.json"
DASHBOARD: dict[str, Any] = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
DATASOURCE = {"type": "influxdb", "uid": "${datasource}"}
PAGE, INPUTS = EXAMPLES / "INTEGRATIONS.md", "filebeat.inputs"
# What Grafana puts in for these is known only when it asks.
BUILT_IN = {"timeFilter", "__interval", "__from", "__to"}
EMPTY_WHEN_WELL = {"trouble"}


def program(name: str) -> str:
    """Where a program is; without it the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> list[Heard]:
    """All that a gateway says while a bearing goes bad, the board restarts, and all is well."""
    folder = tmp_path_factory.mktemp("gateway")
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if found is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    broker = Mosquitto(found, folder)
    subscriber = Listener(broker.port, "otolith/#")
    config = configure(folder, broker.port, PUMP, "[health]\ninterval_seconds = 1\n")
    fault = ("--seed", 7, "--fault", "bearing:4:8", "--reset-at", 10)
    with programs.board(folder / "b.tty", *fault), programs.agent(config) as agent:
        subscriber.until(lambda: subscriber.events("end") and subscriber.events("gap"), 40)
        programs.mosquitto_pub(broker.port, f"{BASE}/cmd/status", "{}")
        subscriber.until(lambda: subscriber.latest(f"{BASE}/cmd_result/status"))
        agent.terminate()
        subscriber.until(lambda: subscriber.latest(f"{BASE}/status") == "stopped")
    subscriber.close()
    broker.kill()
    return subscriber.heard


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, heard: list[Heard]) -> Iterator[Influx]:
    """An InfluxDB 1.x with these messages, as telegraf.conf says."""
    server = program("influxd")
    version = subprocess.run([server, "version"], capture_output=True, text=True, check=False)
    if not version.stdout.startswith("InfluxDB v1."):
        pytest.skip(f"influxd is not 1.x: {version.stdout.strip()}")
    telegraf = Telegraf(TELEGRAF)
    with influxd(server, tmp_path_factory.mktemp("influx"), telegraf.output["database"]) as client:
        client.write(telegraf.lines(heard))
        yield client


def test_telegraf_hears_the_promised_topics_and_names_the_promised_fields() -> None:
    schemas = {name: json.loads(text) for name, text in documents().items()}
    telegraf, heard = Telegraf(TELEGRAF), set()
    for one in telegraf.inputs:
        for topic in one["topics"]:
            (channel,) = [c for c in channels() if topic == f"otolith/+/{_filled(c.topic)}"]
            heard.add(channel.name)
            assert one["qos"] == channel.qos, topic
            fields = _fields(schemas[f"{channel.name}.json"])
            named = {*one.get("tag_keys", []), *one.get("json_string_fields", [])}
            named |= {one["json_time_key"]} if "json_time_key" in one else set()
            assert named <= fields, (topic, named - fields)
    # The others are for people or programs that ask; a picture is no number.
    assert heard == {"status", "health", "board", "asset_status", "state", "event", "score"}
    ids = [one["client_id"] for one in telegraf.inputs if "client_id" in one]
    assert len(set(ids)) == len(ids)


def _filled(topic: str) -> str:
    return re.sub(r"\{\w+\}", "+", topic)


def _fields(schema: dict[str, Any]) -> set[str]:
    """Of all the types that a schema allows."""
    types = [schema, *schema.get("$defs", {}).values()]
    return {name for one in types for name in one.get("properties", {})}


def test_telegraf_itself_accepts_the_file() -> None:
    done = subprocess.run(
        [program("telegraf"), "config", "check", "--config", TELEGRAF],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_kind_of_message_arrives_and_commands_do_not(
    heard: list[Heard], store: Influx
) -> None:
    assert any(one.message.topic == f"{BASE}/cmd/status" for one in heard)
    names = {row[0] for series in store.query("SHOW MEASUREMENTS") for row in series.values}
    assert names == {one["name_override"] for one in Telegraf(TELEGRAF).inputs}
    assets = store.query('SHOW TAG VALUES WITH KEY = "asset"')
    assert {value for series in assets for _, value in series.values} == {"pump"}
    kinds = store.query('SHOW TAG VALUES FROM "otolith_event" WITH KEY = "kind"')
    assert {value for series in kinds for _, value in series.values} >= {"begin", "end", "gap"}
    (last,) = store.query('SELECT last("value") FROM "otolith_status" WHERE "asset" = \'\'')
    assert last.values[0][1] == "stopped"


def test_an_event_or_a_state_that_comes_again_is_no_second_point(
    heard: list[Heard], store: Influx
) -> None:
    statement = 'SELECT * FROM "otolith_event", "otolith_state"'
    before = store.query(statement)
    again = [one for one in heard if one.message.topic.endswith(("/event", "/state"))]
    store.write(Telegraf(TELEGRAF).lines(again))
    assert store.query(statement) == before
    events = [one for one in heard if one.message.topic.endswith("/event")]
    assert sum(len(s.values) for s in before if s.tags == {}) > len(events)


QUERIES = [
    *((p["title"], target["query"]) for p in PANELS for target in p["targets"]),
    *((a["name"], a["target"]["query"]) for a in DASHBOARD["annotations"]["list"]),
]


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_every_query_of_the_dashboard_is_answered(
    heard: list[Heard], store: Influx, title: str, query: str
) -> None:
    """With data in every column, or a misspelt field would be an empty one."""
    health = [json.loads(m.payload) for m, _ in heard if m.topic == f"{BASE}/health"]
    if "temp_c" in query and not any("temp_c" in one for one in health):
        pytest.skip("this machine has no thermometer: no temp_c")
    found = store.query(asked(store, query))
    assert found
    columns = {
        name: any(row[place] is not None for series in found for row in series.values)
        for series in found
        for place, name in enumerate(series.columns)
    }
    assert [
        name for name, full in columns.items() if not full and name not in EMPTY_WHEN_WELL
    ] == []


def asked(store: Influx, query: str) -> str:
    """What Grafana makes of a query: all gateways and assets, the last hour, a point a second."""
    rows = store.query('SELECT "ratio" FROM "otolith_score"')[0].values
    begin, end = rows[0][0] - 3_600_000, rows[-1][0] + 3_600_000
    values = {"timeFilter": f"time >= {begin}ms AND time <= {end}ms", "__interval": "1s"}
    values |= {"__from": str(begin), "__to": str(end)}
    for variable in DASHBOARD["templating"]["list"]:
        if f"${{{variable['name']}:regex}}" in query:
            answer = store.query(asked(store, variable["query"]))
            every = {value for series in answer for _, value in series.values}
            assert every == {{"gateway": "test", "asset": "pump"}[variable["name"]]}
            values[variable["name"]] = f"({'|'.join(map(re.escape, every))})"
    return re.sub(r"\$\{?(\w+)(?::regex)?\}?", lambda found: values[found[1]], query)


def test_the_dashboard_is_whole() -> None:
    """What Grafana's import needs: ids, places, one data source that the user picks."""
    everything = DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    cells = [cell for panel in everything for cell in _cells(panel["gridPos"])]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert names == {"datasource", "gateway", "asset"}
    for panel in PANELS:
        assert panel["datasource"] == DATASOURCE
        assert [t["datasource"] for t in panel["targets"]] == [DATASOURCE] * len(panel["targets"])
        assert len({t["refId"] for t in panel["targets"]}) == len(panel["targets"])
    for title, query in QUERIES:
        used = set(re.findall(r"\$\{?(\w+)", query))
        assert used <= names | BUILT_IN, (title, used)
    (trend,) = [panel for panel in PANELS if panel["title"] == "Score ratio"]
    assert trend["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"] == 1
    assert trend["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"] == {"mode": "line"}


def _cells(place: dict[str, int]) -> list[tuple[int, int]]:
    columns = range(place["x"], place["x"] + place["w"])
    return [(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])]


def snippets(language: str) -> list[str]:
    """The blocks of INTEGRATIONS.md in one language."""
    pattern = rf"^```{language}\n(.*?)^```"
    return re.findall(pattern, PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_pages_topics_and_event_fields_are_promised_ones() -> None:
    text = PAGE.read_text()
    known = [f"otolith/+/{_filled(channel.topic)}" for channel in channels()]
    for topic in re.findall(r"otolith/[\w+<>/-]+/[\w+<>-]+", text):
        assert re.sub(r"<\w+>", "+", topic) in known + [
            f"otolith/+/cmd_result/{name}" for name in COMMANDS
        ], topic
    fields = _fields(json.loads(documents()["event.json"]))
    used = re.findall(r"(?:payload_json|field: otolith)\.(\w+)", text)
    assert used
    assert set(used) <= fields


def test_the_pages_snippets_are_what_they_say(tmp_path: Path) -> None:
    discovery, kafka = snippets("toml")
    file = tmp_path / "agent.toml"
    file.write_text((EXAMPLES / "agent.toml").read_text() + discovery)
    assert load_config(file).home_assistant.discovery
    (output,) = tomllib.loads(kafka)["outputs"]["kafka"]
    assert output["namepass"] == Telegraf(TELEGRAF).output["namepass"]
    automation, source, redpanda, filebeat = map(yaml.safe_load, snippets("yaml"))
    database = source["datasources"][0]["jsonData"]["dbName"]
    assert database == Telegraf(TELEGRAF).output["database"]
    for reader in (automation["triggers"][0], redpanda["input"]["mqtt"], filebeat[INPUTS][0]):
        assert reader["qos"] == 1
        assert not reader.get("clean_session", False)
    (request,) = snippets("json")
    _is_allowed("ack", json.loads(request))
    for name in re.findall(r"systemd/examples/[\w.-]+", "".join(snippets("console"))):
        assert (ROOT / name).exists()


def test_the_flow_is_one_that_node_red_can_import() -> None:
    flow = Flow(FLOW)
    assert len(flow.by_id) == len(flow.nodes)
    (tab,), (broker,) = flow.of("tab"), flow.of("mqtt-broker")
    for node in flow.nodes:
        assert re.fullmatch("[0-9a-f]{16}", node["id"])
        if node in (tab, broker):
            continue
        assert node["z"] == tab["id"]
        assert {"name", "type", "x", "y"} <= set(node)
        assert len(node["wires"]) == node.get("outputs", len(node["wires"]))
        assert {name for output in node["wires"] for name in output} <= set(flow.by_id)
        if node["type"].startswith("mqtt"):
            assert (node["broker"], node["qos"]) == (broker["id"], "1")
    known = {f"otolith/+/{_filled(channel.topic)}" for channel in channels()}
    assert {node["topic"] for node in flow.of("mqtt in")} <= known
    assert [node["retain"] for node in flow.of("mqtt out")] == ["false"]
    # A session that waits while Node-RED is away needs all three.
    assert broker["clientid"]
    assert not broker["cleansession"]
    assert not broker["autoUnsubscribe"]


def test_the_flow_tells_people_of_what_is_bad_and_its_buttons_say_what_they_may(
    heard: list[Heard],
) -> None:
    flow = Flow(FLOW)
    pressed = {button["name"]: flow.press(button) for button in flow.of("inject")}
    assert {node["type"] for ends in pressed.values() for node, _ in ends} == {"debug"}
    begin: dict[str, Any] = {}
    for message, _ in heard:
        if message.topic.endswith("/event"):
            event = json.loads(message.payload)
            begin = event if event["kind"] == "begin" else begin
            told = {node["name"].split(":")[0] for node in flow.receive(message.topic, event)}
            urgent = event["kind"] in ("begin", "update") and event["severity"] >= 3
            assert ("urgent" if urgent else "notice") in told, event
            assert "urgent" not in told or urgent
    for button in flow.of("inject"):
        ((node, sent),) = flow.press(button)
        assert node["type"] == "mqtt out"
        name = sent["topic"].removeprefix(f"{BASE}/cmd/")
        _is_allowed(name, sent["payload"])
        about = sent["payload"].get("episode", sent["payload"].get("asset"))
        assert about in (begin["event_id"], "pump")


def _is_allowed(name: str, payload: dict[str, Any]) -> None:
    """Both what is promised and what the gateway itself reads."""
    jsonschema.validate(payload, json.loads(documents()[f"cmd_{name}.json"]))
    COMMANDS[name].model_validate(payload)


def test_node_red_itself_sends_what_the_buttons_say(
    tmp_path: Path, mosquitto: Mosquitto, heard: list[Heard]
) -> None:
    executable = program("node-red")
    flow, subscriber = Flow(FLOW), Subscriber(mosquitto.port, f"{BASE}/cmd/+")
    flow.of("mqtt-broker")[0]["port"] = str(mosquitto.port)
    for node in flow.of("debug"):
        node["console"] = True
    (begin,) = [m for m, _ in heard if b'"kind":"begin"' in m.payload]
    with node_red(executable, tmp_path, flow.nodes) as running:
        programs.mosquitto_pub(mosquitto.port, begin.topic, begin.payload.decode())
        buttons, sent = flow.of("inject"), subscriber.messages
        for button in buttons:
            count = len(sent)
            while len(sent) == count:
                running.press(button)
                time.sleep(0.2)
        assert json.loads(begin.payload)["why"] in running.said()
    subscriber.close()
    assert {m.topic.rpartition("/")[2] for m in sent} == {
        b["topic"].rpartition("/")[2] for b in buttons
    }
    for message in sent:
        _is_allowed(message.topic.rpartition("/")[2], json.loads(message.payload))
        assert not message.retain
