"""Bundles are installed while the service runs: it judges by them at once, or says why not; what
was told goes on, and nothing grows."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge_agent.__main__ import main
from edge_agent.assets import Asset
from edge_agent.broker.contract import documents
from edge_agent.bundles.bundle import bundle_bytes, read_bundle
from edge_agent.bundles.manifest import Manifest
from edge_agent.bundles.shelf import folder_of, pointer_of, put
from edge_agent.bundles.signature import new_key
from edge_agent.calibrate.baseline.document import Baseline, Estimate, FalseAlarms
from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.calibrate.shelf.stored import Draft
from edge_agent.config import load_config
from edge_agent.door import ask
from edge_agent.health.status import Status, of_answer
from tests import programs
from tests.bundles import changed
from tests.conftest import ROOT, Mosquitto
from tests.programs import COMPASS, VIBRATION
from tests.subscriber import Subscriber
from tests.test_bundle_install import signed
from tests.test_operators import SITE
from tests.test_service import BASE, PUMP, configure, numbers, statuses, wait_for

pytestmark = pytest.mark.timeout(180)

DISCOVERY = "homeassistant/device/otolith_test_pump/config"
FACTOR = 8.0


@pytest.fixture
def subscriber(mosquitto: Mosquitto) -> Iterator[Subscriber]:
    made = Subscriber(mosquitto.port, "#")
    yield made
    made.close()


class Site:
    """A gateway as its owner sees it; `asset` is whose bundles are changed."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.folder, self.config, self.state = folder, config, folder / "state"
        self.asset = "pump"

    def command(self, do: str, *more: object, code: int = 0) -> dict[str, Any]:
        """`edge-agent bundle`, in this process; what it says at the end."""
        said, asked = io.StringIO(), ["bundle", do, *map(str, more), "--asset", self.asset]
        with redirect_stdout(said):
            assert main([*asked, "--config", str(self.config), "--json"]) == code, said.getvalue()
        found: dict[str, Any] = json.loads(said.getvalue().splitlines()[-1])
        return found

    def install(self, file: Path, *more: object, code: int = 0) -> dict[str, Any]:
        return self.command("install", file, *more, code=code)

    def status(self) -> Status:
        return of_answer(ask(self.state, {"do": "status"}))

    def serial(self) -> int | None:
        return self.status().assets[0].bundle_serial

    def shelf(self) -> tuple[bytes, list[str]]:
        """Which one is chosen, and what lies there."""
        folder = folder_of(self.state, "pump")
        pointer = folder / "current.json"
        files = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
        return pointer.read_bytes() if pointer.is_file() else b"", files

    def installing(self, file: Path) -> subprocess.Popen[bytes]:
        """The command in a process that can be killed."""
        return subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "bundle", "install", file, "--asset", "pump",
             "--config", self.config],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path, mosquitto: Mosquitto) -> Site:
    return Site(tmp_path, configure(tmp_path, mosquitto.port, PUMP, SITE))


def deafer(folder: Path, serial: int) -> Path:
    """The vibration bundle under another name, with a threshold that a fault stays under."""
    manifest = read_bundle(VIBRATION).manifest
    spec = manifest.threshold
    threshold = spec.model_copy(update={"value": FACTOR * spec.value})
    return changed(
        VIBRATION, folder / f"deafer-{serial}.otolith", serial=serial, name="deafer",
        threshold=threshold,
    )  # fmt: skip


def numbered(folder: Path, number: int) -> Path:
    """The vibration bundle with a serial."""
    return changed(VIBRATION, folder / f"v{number}.otolith", serial=number)


def told_of(subscriber: Subscriber, leaf: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(subscriber.latest(f"{BASE}/{leaf}") or "{}")
    return found


def judging(subscriber: Subscriber, threshold: float) -> bool:
    """Whether the newest score is beside this threshold."""
    return bool(
        told_of(subscriber, "pump/score").get("threshold") == pytest.approx(threshold, rel=1e-4)
    )


def swaps(subscriber: Subscriber) -> list[str]:
    return [gap["why"] for gap in subscriber.events("gap") if gap["why"].startswith("bundle")]


def test_a_bundle_judges_from_the_next_sample_on_and_so_does_the_one_taken_back(
    site: Site, subscriber: Subscriber
) -> None:
    shipped = read_bundle(VIBRATION).manifest.threshold.value
    with programs.board(site.folder / "b.tty", "--seed", 7), programs.agent(site.config):
        subscriber.until(lambda: judging(subscriber, shipped))
        run = told_of(subscriber, "info")["run_id"]
        second = deafer(site.folder, 2)
        done = site.install(second)
        assert (done["ok"], done["taken_up"], done["restart"]) == (True, True, None)
        assert done["told"] == "pump: deafer serial 2 judges it from now on"
        subscriber.until(lambda: judging(subscriber, FACTOR * shipped))
        info = told_of(subscriber, "info")
        assert (info["run_id"], info["assets"][0]["bundle"]) == (run, "deafer")
        assert (info["assets"][0]["bundle_serial"], info["assets"][0]["status"]) == (2, "online")
        assert json.loads(subscriber.latest(DISCOVERY))["device"]["model"] == "deafer"
        asset = site.status().assets[0]
        assert (asset.bundle, asset.bundle_serial, asset.threshold) == (
            "deafer", 2, pytest.approx(FACTOR * shipped, rel=1e-4),
        )  # fmt: skip
        windows = asset.windows
        # The very same one again: nothing is dropped for it.
        gaps = asset.gaps
        assert site.install(second)["told"] == "pump: deafer serial 2 judges it already"
        done = site.command("rollback")
        assert (done["taken_up"], done["serial"]) == (True, 1)
        subscriber.until(lambda: judging(subscriber, shipped))
        asset = site.status().assets[0]
        assert asset.gaps == gaps + 1
        assert asset.windows >= windows
        subscriber.until(lambda: len(swaps(subscriber)) == 2, 15)
        # Nobody has heard that it was away.
        assert statuses(subscriber, "pump").count("online") == 1
        assert statuses(subscriber, "pump")[-1] == "online"
        # The floor stands where it stood after a restart, too.
        assert "seen 2" in site.install(numbered(site.folder, 1), code=1)["problem"]
    assert swaps(subscriber) == [
        "bundle deafer serial 2 from now on", "bundle vibration serial 1 from now on",
    ]  # fmt: skip
    assert all(gap["samples_lost"] == 0 for gap in subscriber.events("gap"))
    schemas = {name: json.loads(text) for name, text in documents().items()}
    for event in subscriber.events():
        jsonschema.validate(event, schemas["event.json"])
    jsonschema.validate(told_of(subscriber, "info"), schemas["info.json"])


def test_an_episode_goes_on_and_the_new_bundle_ends_it(site: Site, subscriber: Subscriber) -> None:
    """Told, acknowledged, found again after kill -9; the next one has the next number."""
    reminders = "re_alarm_seconds = 0.0\nreminder_seconds = 1.0"
    site.config.write_text(site.config.read_text().replace("re_alarm_seconds = 0.0", reminders))
    fault = ("--fault", "bearing:3:18", "--fault", "bearing:23:60")
    with programs.board(site.folder / "b.tty", "--seed", 7, *fault):
        with programs.agent(site.config) as agent:
            subscriber.until(lambda: subscriber.events("begin"), 40)
            site.install(numbered(site.folder, 2))
            # What is said again is what the bundle of then has judged.
            count = len(subscriber.events("update"))
            subscriber.until(lambda: len(subscriber.events("update")) > count + 1)
            assert {event["bundle_serial"] for event in subscriber.events("update")} == {1}
            programs.mosquitto_pub(
                subscriber_port(site), f"{BASE}/cmd/ack", json.dumps({"asset": "pump"})
            )
            subscriber.until(lambda: told_of(subscriber, "pump/state")["state"] == "acked")
            os.kill(agent.pid, signal.SIGKILL)
            agent.wait()
        with programs.agent(site.config):
            subscriber.until(lambda: subscriber.events("end"), 60)
            subscriber.until(lambda: told_of(subscriber, "pump/state")["state"] == "ok")
            subscriber.until(lambda: len(subscriber.events("begin")) > 1, 60)
            # The second one ends because the bundle that comes does not find it worth an alarm.
            site.install(deafer(site.folder, 3))
            subscriber.until(lambda: len(subscriber.events("end")) > 1, 30)
            subscriber.until(lambda: told_of(subscriber, "pump/state")["state"] == "ok")
    (begin, second), (end, last) = subscriber.events("begin"), subscriber.events("end")
    assert end["event_id"] == begin["event_id"] == second["event_id"].replace("pump-2", "pump-1")
    assert last["event_id"] == second["event_id"]
    assert [e["bundle_serial"] for e in (begin, end, second, last)] == [1, 2, 2, 3]
    assert end["seq"] > begin["seq"]
    assert last["reason"] == "cleared"


def subscriber_port(site: Site) -> int:
    return load_config(site.config).mqtt.port


def test_what_the_service_refuses_is_not_left_on_the_shelf(
    site: Site, subscriber: Subscriber
) -> None:
    """It trusts the keys of its start, and it knows what its board sends."""
    private, public = new_key()
    first = signed(numbered(site.folder, 1), private)
    unsigned = site.config.read_text().replace(str(VIBRATION), str(first))
    site.config.write_text(f'trusted_keys = ["{public}"]\n' + unsigned)
    shipped = read_bundle(VIBRATION).manifest.threshold.value
    compass = signed(changed(COMPASS, site.folder / "compass.otolith", serial=7), private)
    with programs.board(site.folder / "b.tty", "--seed", 7), programs.agent(site.config):
        subscriber.until(lambda: judging(subscriber, shipped))
        site.config.write_text(unsigned)
        before = site.shelf()
        told = site.install(deafer(site.folder, 5), code=1)["problem"]
        assert told.startswith("the service that runs refuses it and judges pump as before: ")
        assert "is not signed" in told
        assert site.shelf() == before
        good = signed(numbered(site.folder, 2), private)
        assert site.install(good)["taken_up"]
        before = site.shelf()
        for file in (deafer(site.folder, 6), compass):
            refused = site.install(file, "--force-sensor", code=1)["problem"]
            assert "is not signed" in refused or "the board sends" in refused
            assert site.shelf() == before
        # A lower serial than that of what was refused is no downgrade.
        assert site.install(signed(numbered(site.folder, 3), private))["serial"] == 3
        assert site.serial() == 3
        assert site.status().assets[0].status == "online"
    assert swaps(subscriber)[:1] == ["bundle vibration serial 2 from now on"]
    assert "judged as before" in site.config.with_suffix(".log").read_text()


def test_an_asset_that_was_refused_is_judged_once_there_is_a_good_bundle(
    site: Site, subscriber: Subscriber
) -> None:
    """And its episode of before ends under its name."""
    own = numbered(site.folder, 1)
    site.config.write_text(site.config.read_text().replace(str(VIBRATION), str(own)))
    with programs.board(site.folder / "b.tty", "--seed", 7, "--fault", "bearing:3:9"):
        with programs.agent(site.config) as agent:
            subscriber.until(lambda: subscriber.events("begin"), 40)
            agent.terminate()
            agent.wait()
        own.write_bytes(own.read_bytes()[:-100])
        with programs.agent(site.config):
            subscriber.until(lambda: statuses(subscriber, "pump")[-1:] == ["refused"])
            assert site.install(numbered(site.folder, 2))["taken_up"]
            subscriber.until(lambda: statuses(subscriber, "pump")[-1:] == ["online"])
            subscriber.until(lambda: subscriber.events("end"), 40)
            assert site.status().wrong == []
    (begin,), (end,) = subscriber.events("begin"), subscriber.events("end")
    assert (end["event_id"], end["bundle_serial"]) == (begin["event_id"], 2)


def test_a_board_that_is_away_and_an_asset_that_the_service_does_not_know(
    site: Site, subscriber: Subscriber
) -> None:
    with programs.agent(site.config):
        wait_for(lambda: statuses(subscriber, "pump")[-1:] == ["offline"])
        told = site.install(numbered(site.folder, 2))["told"]
        assert told == "pump: vibration serial 2 judges it from when board b streams"
        with programs.board(site.folder / "b.tty", "--seed", 7):
            wait_for(lambda: told_of(subscriber, "pump/score"))
            assert site.status().assets[0].bundle_serial == 2
        fan = f'[assets.fan]\nboard = "b"\nstream = "accel"\nbundle = "{VIBRATION}"\n'
        site.config.write_text(site.config.read_text() + fan)
        site.asset = "fan"
        done = site.install(numbered(site.folder, 3))
        assert (done["taken_up"], done["restart"]) == (False, "systemctl restart edge-agent")
        assert done["told"] == "fan is not in the configuration that runs"
        for asset in (["pump"], {}, 3, None):
            answer = ask(site.state, {"do": "take_up", "asset": asset})
            assert not answer["taken_up"]
    assert swaps(subscriber) == []  # there was no window to drop


def test_killed_between_the_shelf_and_the_service(site: Site, subscriber: Subscriber) -> None:
    with programs.board(site.folder / "b.tty", "--seed", 7):
        for number, service_dies in ((2, False), (3, True)):
            with programs.agent(site.config) as agent:
                wait_for(lambda: statuses(subscriber, "pump")[-1:] == ["online"])
                agent.send_signal(signal.SIGSTOP)
                child = site.installing(numbered(site.folder, number))
                wait_for(lambda n=number: chosen(site) == n)  # type: ignore[misc]
                child.kill()
                child.wait()
                if service_dies:
                    agent.kill()
                    agent.wait()
                else:
                    agent.send_signal(signal.SIGCONT)
                    # The same again does no harm, whether or not it was asked for in time.
                    assert site.install(numbered(site.folder, number))["taken_up"]
                    assert site.serial() == number
        with programs.agent(site.config):
            wait_for(lambda: told_serial(subscriber) == 3)
            assert site.serial() == 3


def chosen(site: Site) -> int | None:
    pointer = pointer_of(site.state, "pump")
    return pointer.accepted_serial if pointer else None


def told_serial(subscriber: Subscriber) -> int | None:
    assets = told_of(subscriber, "info").get("assets")
    return assets[0].get("bundle_serial") if assets else None


def test_fifty_exchanges_leave_nothing_behind(site: Site, subscriber: Subscriber) -> None:
    files = [deafer(site.folder, 2), numbered(site.folder, 2)]
    contents = [(bundle_bytes(file), read_bundle(file)) for file in files]

    def exchange(number: int) -> None:
        put(site.state, "pump", *contents[number % 2])
        assert ask(site.state, {"do": "take_up", "asset": "pump"}, 30)["taken_up"]

    def measured() -> dict[str, Any]:
        """Health of a moment from now, when pages were given back."""
        before = numbers(subscriber, "health").get("uptime_s", 0.0)
        subscriber.until(lambda: numbers(subscriber, "health").get("uptime_s", 0.0) > before + 1)
        return numbers(subscriber, "health")

    with programs.board(site.folder / "b.tty", "--seed", 7), programs.agent(site.config):
        subscriber.until(lambda: told_of(subscriber, "pump/score"))
        for number in range(6):
            exchange(number)
        before = measured()
        for number in range(6, 50):
            exchange(number)
        after = measured()
        asset = site.status().assets[0]
    assert after["open_descriptors"] <= before["open_descriptors"]
    assert after["threads"] <= before["threads"]
    assert after["rss_bytes"] - before["rss_bytes"] < 4 << 20
    assert after["samples_lost"] == 0
    assert asset.gaps == 50
    assert after["windows"] >= before["windows"]


def test_a_baseline_is_for_its_bundle_and_comes_back_with_it(tmp_path: Path) -> None:
    config = Site(tmp_path, configure(tmp_path, 1, PUMP))
    old, new = read_bundle(VIBRATION), deafer(tmp_path, 2)
    stored = Shelf(config.state, "b").put(baseline_of(old.manifest, old.sha256))
    asset = loaded(config)
    assert asset.pipeline
    assert (asset.pipeline.baseline, asset.note) == (stored.id, None)
    config.install(new)
    found = loaded(config)
    asset.adopt(found)
    assert asset.pipeline is found.pipeline
    assert found.pipeline
    assert found.pipeline.baseline is None
    assert found.pipeline.threshold.value == FACTOR * old.manifest.threshold.value
    assert "belongs to bundle vibration serial 1, and another judges" in str(asset.note)
    config.command("rollback")
    asset.adopt(loaded(config))
    assert asset.pipeline.baseline == stored.id
    assert asset.pipeline.threshold.value == 2.0 * old.manifest.threshold.value
    assert asset.note is None


def loaded(site: Site) -> Asset:
    asset = Asset("pump", load_config(site.config).assets["pump"])
    asset.load((), 1, site.state)
    assert asset.refusal is None
    return asset


def baseline_of(manifest: Manifest, sha256: str) -> Draft:
    """Twice the threshold that was shipped."""
    none = FalseAlarms(episodes=0, a_day=0.0, low=0.0, high=1.0, share=0.0)
    spec = manifest.threshold
    baseline = Baseline(
        asset="pump", stream="accel", uid="0" * 24, bundle=manifest.name,
        bundle_serial=manifest.serial, bundle_sha256=sha256, shipped_threshold=spec.value,
        threshold=spec.model_copy(update={"value": 2.0 * spec.value}),
        normal_error=manifest.normal_error, states=(), provisional=False,
        estimate=Estimate(hours=1.0, windows=100, shipped=none, now=none), median_ratio=0.5,
    )  # fmt: skip
    details = {"assets": {"pump": baseline.model_dump(mode="json")}}
    return Draft(
        kind="baseline", board="b", uid="0" * 24, verdict="pass", reason="-", details=details
    )
