"""A state folder that takes nothing at the start: alerts go out, and health says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.state_folder import MAX_COPIED_BYTES, MEMORY, writable
from tests import programs
from tests.conftest import ROOT, Mosquitto
from tests.faulty_disk import MISSING, FaultyDisk, Trouble
from tests.subscriber import Subscriber
from tests.test_service import PUMP, configure


def test_a_folder_that_can_be_written_is_taken_and_left_as_it_was(tmp_path: Path) -> None:
    assert writable(tmp_path / "state") == (tmp_path / "state", None)
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_the_stand_in_begins_with_what_can_be_read(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "calibrations" / "b").mkdir(parents=True)
    (state / "calibrations" / "b" / "compass.current").write_text("compass-1-000000")
    (state / "large").write_bytes(bytes(MAX_COPIED_BYTES + 1))
    (state / "link").symlink_to("/etc/passwd")
    disk = FaultyDisk(state, tmp_path / "trouble")
    disk.fails("EROFS")
    asked = f"from pathlib import Path; from edge_agent.state_folder import writable; \
print(*writable(Path({str(state)!r})), sep='\\n')"
    environment = {**disk.environment(), "TMPDIR": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    folder, problem = said.stdout.splitlines()
    assert str(state) in problem
    assert sorted(path.name for path in Path(folder).rglob("*")) == [
        "b", "calibrations", "compass.current",
    ]  # fmt: skip


def test_a_file_in_the_way_is_for_people_to_move(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a folder")
    with pytest.raises(FileExistsError):
        writable(tmp_path / "state")


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize("trouble", ["EROFS", "ENOSPC"])
def test_an_agent_that_starts_on_a_dead_disk_tells_alerts(
    tmp_path: Path, mosquitto: Mosquitto, trouble: Trouble
) -> None:
    file = configure(tmp_path, mosquitto.port, PUMP, "[health]\ninterval_seconds = 1\n")
    (tmp_path / "state").mkdir()
    disk = FaultyDisk(tmp_path / "state", tmp_path / "trouble")
    disk.fails(trouble)
    subscriber = Subscriber(mosquitto.port, "otolith/test/#")
    environment = {**disk.environment(), "TMPDIR": str(tmp_path)}
    with programs.board(tmp_path / "b.tty", "--seed", 7, "--fault", "bearing:4:8"):
        running = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "run", "--config", file],
            cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        subscriber.until(lambda: subscriber.events("begin"), 40)
        health = json.loads(subscriber.latest("otolith/test/health"))
        running.terminate()
        _, said = running.communicate(timeout=30)
    subscriber.close()
    assert health["outbox_ok"] == 0
    assert "stands in); mend it and restart" in said
    assert running.returncode == 0
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_the_stand_in_is_in_memory_where_the_temporary_folder_is_on_the_card(
    tmp_path: Path,
) -> None:
    (tmp_path / "card" / "tmp").mkdir(parents=True)
    disk = FaultyDisk(tmp_path / "card", tmp_path / "trouble")
    disk.fails("EROFS")
    asked = f"import tempfile; tempfile.tempdir = {str(tmp_path / 'card' / 'tmp')!r}\n\
from pathlib import Path; from edge_agent.state_folder import writable\n\
print(writable(Path({str(tmp_path / 'card' / 'state')!r}))[0])"
    said = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, env=disk.environment(), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    stand_in = Path(said.stdout.strip())
    assert stand_in.parent == MEMORY
    stand_in.rmdir()
