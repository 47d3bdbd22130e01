"""Bundles are installed, listed and taken back; what goes wrong leaves the one before judging."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from edge_agent.__main__ import main
from edge_agent.assets import Asset, load_assets
from edge_agent.bundles import installing
from edge_agent.bundles.bundle import (
    MANIFEST_NAME,
    MODEL_NAME,
    SIGNATURE_NAME,
    BundleError,
    read_bundle,
)
from edge_agent.bundles.manifest import FileEntry
from edge_agent.bundles.rehearsal import rehearse
from edge_agent.bundles.shelf import KEPT, folder_of, pointer_of
from edge_agent.bundles.signature import new_key, sign
from edge_agent.config import load_config
from tests.bundles import changed
from tests.conftest import ROOT
from tests.programs import COMPASS, VIBRATION, run

NOBODY = 65534


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A gateway with one asset, judged by a bundle of serial 1."""
    file = tmp_path / "agent.toml"
    file.write_text(
        '[gateway]\nid = "t"\n[storage]\nstate_dir = "state"\n[boards.b]\nport = "b.tty"\n'
        f'[assets.pump]\nboard = "b"\nstream = "accel"\nbundle = "{VIBRATION}"\n'
    )
    return file


def bundle(config: Path, do: str, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
    """`edge-agent bundle`, in this process."""
    said = io.StringIO()
    with redirect_stdout(said):
        asked = ["bundle", do, *map(str, arguments), "--config", str(config), "--json"]
        assert main(asked) == code, said.getvalue()
    return [json.loads(line) for line in said.getvalue().splitlines()]


def install(config: Path, file: Path, *more: object, code: int = 0) -> dict[str, Any]:
    """`edge-agent bundle install`; what it says at the end."""
    return bundle(config, "install", file, "--asset", "pump", *more, code=code)[-1]


def rollback(config: Path, code: int = 0) -> dict[str, Any]:
    return bundle(config, "rollback", "--asset", "pump", code=code)[-1]


def judging(config: Path) -> Asset:
    """What the service makes of it at its start."""
    return load_assets(load_config(config))["pump"]


def serial(config: Path) -> int:
    asset = judging(config)
    assert asset.refusal is None
    assert asset.bundle
    return asset.bundle.serial


def numbered(folder: Path, number: int, **fields: Any) -> Path:
    """The vibration bundle with a serial."""
    return changed(VIBRATION, folder / f"v{number}.otolith", serial=number, **fields)


def test_install_list_and_roll_back(tmp_path: Path, config: Path) -> None:
    assert serial(config) == 1
    for number in (2, 3, 4):
        done = install(config, numbered(tmp_path, number))
        assert (done["ok"], done["serial"], done["before"]["serial"]) == (True, number, number - 1)
        assert done["restart"] == "systemctl restart edge-agent"
        assert done["window_ms"] > 0
        assert serial(config) == number
    rows = bundle(config, "list")
    states = [(row["state"], row["serial"]) for row in rows[:-1]]
    assert states == [("current", 4), ("previous", 3), ("kept", 2), ("configured", 1)]
    assert {"name", "sha256", "created", "signed", "switched", "asset"} <= set(rows[0])
    assert len(list(folder_of(tmp_path / "state", "pump").glob("*.otolith"))) == KEPT
    assert rollback(config)["serial"] == 3
    assert serial(config) == 3
    assert rollback(config)["serial"] == 2
    assert "there is no bundle before 2-" in rollback(config, code=1)["problem"]
    assert serial(config) == 2


def test_the_configured_bundle_is_kept_to_go_back_to(tmp_path: Path, config: Path) -> None:
    own = numbered(tmp_path, 1, name="commissioned")
    config.write_text(config.read_text().replace(str(VIBRATION), str(own)))
    install(config, numbered(tmp_path, 2))
    own.unlink()
    assert rollback(config)["name"] == "commissioned"
    assert serial(config) == 1


def test_a_serial_names_one_content_only(config: Path, tmp_path: Path) -> None:
    """Or two bundles of one number could be changed for each other, and nobody would see it."""
    told = "is another bundle of serial 2: build with a higher serial"
    install(config, numbered(tmp_path, 2))
    other = changed(VIBRATION, tmp_path / "other.otolith", serial=2, name="other")
    assert told in install(config, other, code=1)["problem"]
    assert install(config, numbered(tmp_path, 2))["serial"] == 2
    install(config, numbered(tmp_path, 3))
    assert rollback(config)["serial"] == 2
    three = changed(VIBRATION, tmp_path / "three.otolith", serial=3, name="three")
    assert "is another bundle of serial 3" in install(config, three, code=1)["problem"]
    assert serial(config) == 2
    # Signed anew it is still the same.
    again = numbered(tmp_path, 3)
    with zipfile.ZipFile(again, "a") as archive:
        archive.writestr(SIGNATURE_NAME, bytes(64))
    assert install(config, again)["serial"] == 3


def test_only_the_file_that_was_rolled_back_to_may_have_a_lower_serial(
    tmp_path: Path, config: Path
) -> None:
    two, three = numbered(tmp_path, 2), numbered(tmp_path, 3)
    install(config, two)
    install(config, three)
    assert serial(config) == 3
    rollback(config)
    assert serial(config) == 2
    told = "has serial 2, this gateway has seen 3"
    assert told in install(config, two, code=1)["problem"]
    # Not even under the name of the one that may.
    pointer = pointer_of(tmp_path / "state", "pump")
    assert pointer
    other = changed(VIBRATION, tmp_path / "other.otolith", serial=2, name="other")
    (folder_of(tmp_path / "state", "pump") / pointer.current).write_bytes(other.read_bytes())
    assert "is not the file that was installed" in str(judging(config).refusal)
    assert json.loads((tmp_path / "state" / "bundle_serials.json").read_text()) == {"pump": 3}
    assert install(config, three)["serial"] == 3  # what is not lower is no downgrade
    assert serial(config) == 3


def test_after_a_rollback_a_new_bundle_leads_back_to_the_good_one(
    tmp_path: Path, config: Path
) -> None:
    for number in (2, 3):
        install(config, numbered(tmp_path, number))
    rollback(config)
    install(config, numbered(tmp_path, 4))
    assert rollback(config)["serial"] == 2


def test_what_can_not_judge_is_refused_and_changes_nothing(tmp_path: Path, config: Path) -> None:
    install(config, numbered(tmp_path, 2))
    before = sorted(p.name for p in folder_of(tmp_path / "state", "pump").iterdir())
    compass = changed(COMPASS, tmp_path / "compass.otolith", serial=9)
    told = install(config, compass, code=1)["problem"]
    assert "compass.otolith is for x, y, z in uT at 100 Hz, the one before it for" in told
    assert "--force-sensor" in told
    broken = tmp_path / "broken.otolith"
    broken.write_bytes(compass.read_bytes()[:-500])
    assert "is damaged" in install(config, broken, code=1)["problem"]
    assert "no file" in install(config, tmp_path, code=1)["problem"]
    assert bundle(config, "install", tmp_path / "none", "--asset", "pump", code=74) == []
    assert bundle(config, "install", compass, "--asset", "pmup", code=2) == []
    assert sorted(p.name for p in folder_of(tmp_path / "state", "pump").iterdir()) == before
    assert serial(config) == 2
    assert install(config, compass, "--force-sensor")["name"] == "compass"


def test_settings_of_the_site_that_a_bundle_can_not_keep_refuse_it(
    tmp_path: Path, config: Path
) -> None:
    limit = '[[assets.pump.limits]]\nchannel = "x"\nabove = 1.0\n'
    config.write_text(config.read_text() + limit)
    sensor = read_bundle(VIBRATION).manifest.sensor
    sensor = sensor.model_copy(update={"channels": ("a", "b", "c")})
    other = numbered(tmp_path, 2, sensor=sensor)
    told = install(config, other, "--force-sensor", code=1)["problem"]
    assert told == "limit of channel x: there is none; known: a, b, c"
    assert serial(config) == 1


def signed(path: Path, key: str) -> Path:
    """The same file with a signature in it."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(SIGNATURE_NAME, sign(key, archive.read(MANIFEST_NAME)))
    return path


def test_with_trusted_keys_only_signed_bundles_are_installed_and_judge(
    tmp_path: Path, config: Path
) -> None:
    (private, public), (stranger, _) = new_key(), new_key()
    config.write_text(f'trusted_keys = ["{public}"]\n' + config.read_text())
    told = install(config, numbered(tmp_path, 2), code=1)["problem"]
    assert "v2.otolith is not signed: sign it with this gateway's key" in told
    forged = signed(numbered(tmp_path, 3), stranger)
    assert "is signed with another key" in install(config, forged, code=1)["problem"]
    good = install(config, signed(numbered(tmp_path, 4), private))
    assert (good["signed"], good["before"]) == (True, None)  # the configured one is not signed
    assert serial(config) == 4
    # A key that is taken back takes its bundles along.
    config.write_text(config.read_text().replace(public, new_key()[1]))
    assert "is signed with another key" in str(judging(config).refusal)


def test_check_config_and_doctor_say_which_bundle_judges(tmp_path: Path, config: Path) -> None:
    install(config, numbered(tmp_path, 2))
    (last,) = run("edge_agent", "check-config", config, "--json")
    (note,) = last["notes"]
    assert "assets.pump.bundle: " in note
    assert "(vibration, serial 2) was installed and judges instead" in note
    (folder_of(tmp_path / "state", "pump") / "current.json").write_text("{")
    found = run("edge_agent", "doctor", "--config", config, "--seconds", 0.1, "--json", code=1)
    assert any("current.json is damaged: install the bundle again" in f.get("seen", "")
               for f in found)  # fmt: skip
    assert "is damaged" in str(judging(config).refusal)
    install(config, numbered(tmp_path, 2))
    assert serial(config) == 2


def test_models_that_make_no_sense_are_refused_in_one_line(tmp_path: Path) -> None:
    """Bytes of the model are turned, and its hash is right."""
    whole, chance, refusals = read_bundle(VIBRATION), random.Random(20), []
    path = tmp_path / "hostile.otolith"
    for _ in range(6):
        model = bytearray(whole.model)
        for _ in range(40):
            model[-1 - chance.randrange(6000)] = chance.randrange(256)
        entry = FileEntry(sha256=hashlib.sha256(model).hexdigest(), bytes=len(model))
        manifest = whole.manifest.model_copy(update={"files": {MODEL_NAME: entry}})
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(MANIFEST_NAME, manifest.model_dump_json())
            archive.writestr(MODEL_NAME, bytes(model))
        try:
            rehearse(path.name, path.read_bytes())
        except BundleError as error:
            refusals.append(str(error))
    assert refusals
    for refusal in refusals:
        assert refusal.startswith("hostile.otolith does not run here: ")
        assert "\n" not in refusal


def test_a_model_that_takes_its_process_along_is_refused(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child is replaced by one that dies as a model could make it."""
    package = tmp_path / "edge_agent" / "bundles"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "rehearsal.py").write_text("import os; os.abort()\n")
    monkeypatch.setattr("edge_agent.bundles.rehearsal.PACKAGES", tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(BundleError, match=r"ends the process that runs it \(signal 6\)"):
        installing.install(numbered(tmp_path, 2), "pump", load_config(config))
    assert serial(config) == 1


def test_a_full_disk_leaves_the_one_before_and_no_rubbish(tmp_path: Path, config: Path) -> None:
    install(config, numbered(tmp_path, 2))
    three, half = numbered(tmp_path, 3), 60_000

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))

    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "bundle", "install", three, "--asset", "pump",
         "--config", config],
        cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=small_disk,
    )  # fmt: skip
    assert done.returncode == 74, done.stderr
    assert "File too large" in done.stderr
    assert "/proc/self" not in done.stderr
    assert serial(config) == 2
    assert not list((tmp_path / "state").rglob("*.new"))


@pytest.mark.timeout(120)
def test_killed_at_any_moment_the_old_one_or_the_new_one_judges(
    tmp_path: Path, config: Path
) -> None:
    chance, expected = random.Random(3), 1
    for number in range(2, 5):
        child = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "bundle", "install",
             numbered(tmp_path, number), "--asset", "pump", "--config", config],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        folder = folder_of(tmp_path / "state", "pump")
        deadline_s = time.monotonic() + 30
        while not list(folder.glob(f"{number}-*")) and child.poll() is None:
            assert time.monotonic() < deadline_s
        time.sleep(chance.uniform(0, 0.004))
        child.send_signal(signal.SIGKILL)
        child.wait()
        found = serial(config)
        assert found in (expected, number)
        expected = found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: writes as another user")
def test_root_writes_as_the_service_and_where_the_service_may(tmp_path: Path, config: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    assert (tmp_path.stat().st_mode & 0o007) == 0  # as /var/lib/private
    asked = ("edge_agent", "bundle", "install", "--asset", "pump", "--config", config, "--json")
    run(*asked, numbered(tmp_path, 2))
    for path in (state / "bundles").rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY), path
    # A link that the service's user has laid does not make root write elsewhere.
    prey = tmp_path / "prey"
    prey.write_text("mine")
    folder = folder_of(state, "pump")
    (folder / "current.json.new").symlink_to(prey)
    assert run(*asked, numbered(tmp_path, 3), code=74) == []
    assert prey.read_text() == "mine"
    assert serial(config) == 2
