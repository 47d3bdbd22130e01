"""What every test may ask for: the recordings, a real Mosquitto, seeded randomness."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from converter.child import warm_children

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("OTOLITH_DATA", ROOT.parent / "shared" / "data"))

settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips by name the tests whose recordings are not here."""
    for item in items:
        for marker in item.iter_markers("data"):
            missing = [name for name in marker.args if not (DATA / name).is_dir()]
            if missing:
                reason = f"no recordings {', '.join(missing)} in {DATA} (set OTOLITH_DATA)"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real recordings; the test must carry `@pytest.mark.data(...)`."""
    return DATA


@pytest.fixture(scope="module")
def warm() -> Iterator[None]:
    """TensorFlow is loaded once for all networks of a module, and not twice for each."""
    with warm_children():
        yield


def free_port() -> int:
    """A TCP port on loopback that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """A real broker on loopback that can be killed and started again on the same port; `more` is
    the rest of its configuration."""

    def __init__(self, program: str, folder: Path, more: str = "allow_anonymous true\n") -> None:
        self.port = free_port()
        self._program = program
        self._log = folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\npersistence false\n{more}")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts and waits until the port answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", str(self._config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"mosquitto does not answer: {self._log.read_text()}")

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def reload(self) -> None:
        """Has it read its password and ACL files again."""
        if self._process:
            self._process.send_signal(signal.SIGHUP)

    def restart(self) -> None:
        """Kill and start on the same port."""
        self.kill()
        self.start()


@pytest.fixture
def mosquitto_with(tmp_path: Path) -> Iterator[Callable[[str], Mosquitto]]:
    """Starts a broker of this test's own, with lines of configuration."""
    search = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    program = shutil.which("mosquitto", path=search)
    if program is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    started: list[Mosquitto] = []

    def start(more: str) -> Mosquitto:
        started.append(Mosquitto(program, tmp_path, more))
        return started[-1]

    yield start
    for broker in started:
        broker.kill()


@pytest.fixture
def mosquitto(mosquitto_with: Callable[[str], Mosquitto]) -> Mosquitto:
    """A broker of this test's own that lets everybody in."""
    return mosquitto_with("allow_anonymous true\n")
