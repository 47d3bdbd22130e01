"""Gateway: one day in the life of the service, told as checks on one machine, in this order.

In: a machine that has just been booted, without a broker and without a board. Out: verdicts.
Never: a mock; systemd, broker, port, agent and unit are those of a gateway.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.booted.commands import Commands, until
from tests.booted.layer import (
    AGENT,
    BOARD,
    BROKER,
    CONFIG,
    PASSWORD,
    PASSWORD_FILE,
    READER,
    config,
)
from tests.booted.machine import Machine
from tests.booted.verdict import Verdict, judged

READY_SECONDS = 20.0
ALERT_SECONDS = 40.0
MAX_EXPOSURE = "15"
READY = "ready without broker and board"
# What another version of systemd could see differently.
OF_SYSTEMD = (
    READY, "broker and board come later", "status line", "reload",
    "reload of a bad file changes nothing", "exposure", "verify", "stop",
)  # fmt: skip
TOPIC = "otolith/edge-agent"
EVENTS = f"{TOPIC}/motor/event"
RESTART_SECONDS = 2.0
FOREIGN_ADDRESS = "192.0.2.1"
# Run in the agent's own cgroup, where systemd's rules for devices and addresses hold.
PROBE = """
import os, socket
open("/sys/fs/cgroup/system.slice/edge-agent.service/cgroup.procs", "w").write(str(os.getpid()))
for host in ("127.0.0.1", "192.0.2.1"):
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", (host, 9))
        print(host, "sent")
    except OSError as error:
        print(host, error.strerror)
for name in ("/dev/null", "/dev/foreign"):
    try:
        os.close(os.open(name, os.O_RDONLY))
        print(name, "opened")
    except OSError as error:
        print(name, error.strerror)
"""


def checks() -> dict[str, Callable[[Machine], str]]:
    """By name, in the order in which they go together."""
    return {
        READY: ready_alone,
        "broker and board come later": company_comes,
        "an alarm reaches a subscriber": alarm_arrives,
        "an alarm waits through kill -9": alarm_waits,
        "status line": status_line,
        "numbers for Prometheus": collected,
        "password is read and seen nowhere": password_unseen,
        "wrong password is named": wrong_password,
        "reload": reload_good,
        "reload of a bad file changes nothing": reload_bad,
        "sandbox": sandbox,
        "devices and addresses": rules_hold,
        "exposure": exposure,
        "verify": verify,
        "stop": stop,
        "bad configuration is not restarted": bad_config,
    }


def verdicts(machine: Machine, bed: str, names: Iterable[str] = ()) -> Iterator[Verdict]:
    """Of these checks, or of all; a later one counts on the earlier ones."""
    for name, check in checks().items():
        if names and name not in names:
            continue
        verdict = judged(bed, name, partial(check, machine))
        yield verdict
        if name == READY and not verdict.ok:
            return


def ready_alone(machine: Machine) -> str:
    """READY=1 comes although nothing that the agent works with is there."""
    until(lambda: machine.show(AGENT, "ActiveState") == "active", "the agent is ready",
          READY_SECONDS)  # fmt: skip
    assert machine.show(BROKER, "ActiveState") == "inactive"
    begun, ready = (
        int(machine.show(AGENT, name))
        for name in ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    )
    missing = machine.said(AGENT, "board press: /run/board does not exist")
    away = machine.said(AGENT, "nothing listens there")
    return f"READY=1 after {(ready - begun) / 1e6:.2f} s; {missing!r}; {away!r}"


def company_comes(machine: Machine) -> str:
    """Broker, then board, are found without anybody's help."""
    machine.run("systemctl", "start", BROKER)
    listen(machine)
    connected = machine.said(AGENT, "connected to the broker")
    machine.run("systemctl", "start", BOARD)
    streaming = machine.said(AGENT, "board press: streaming")
    assert machine.show(AGENT, "NRestarts") == "0"
    return f"{connected}; {streaming}"


def alarm_arrives(machine: Machine) -> str:
    """The board's bearing fails; Debian's own subscriber gets the alert."""
    told = event(machine, replayed=False)
    assert told["kind"] == "begin", told
    return f"{told['kind']} {told['top1_ch']}: {told['why']}"


def alarm_waits(machine: Machine) -> str:
    """The broker goes, a fault begins, the agent is killed: the alert is there all the same."""
    machine.run("systemctl", "stop", BOARD, BROKER, AGENT)
    machine.run("rm", "-r", "/var/lib/private/edge-agent")
    told = sum("alarm begin" in line for line in machine.journal(AGENT))
    machine.run("systemctl", "start", AGENT, BOARD)

    def waiting() -> str | None:
        begun = sum("alarm begin" in line for line in machine.journal(AGENT)) > told
        text = machine.show(AGENT, "StatusText")
        return text if begun and re.search("[1-9][0-9]* waiting", text) else None

    text = until(waiting, "an alert waits in the outbox", ALERT_SECONDS)
    before = machine.show(AGENT, "MainPID")
    machine.run("systemctl", "kill", "--signal=KILL", AGENT)
    _started_anew(machine, before)
    machine.run("systemctl", "start", BROKER)
    late = event(machine, replayed=True)
    assert late["kind"] == "begin", late
    return f"{text!r}; kill -9, broker back: {late['event_id']} {late['why']!r}"


def status_line(machine: Machine) -> str:
    """`systemctl status` says how it is in one line."""

    def line() -> str | None:
        text = machine.show(AGENT, "StatusText")
        good = text.startswith("1/1 boards streaming, broker connected, 0 waiting")
        return text if good else None

    text = until(line, "the status line tells of board and broker", READY_SECONDS)
    assert text in machine.run("systemctl", "status", "--no-pager", AGENT)
    return text


def collected(machine: Machine) -> str:
    """What the service writes for Prometheus, another user collects."""
    file = "/run/edge-agent/otolith.prom"

    def numbers() -> str | None:
        return machine.run(
            "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", file, code=None
        )  # fmt: skip

    text = until(numbers, "numbers that nobody may read", READY_SECONDS)
    return f"{len(text.splitlines())} lines, readable by nobody"


def password_unseen(machine: Machine) -> str:
    """The broker lets nobody in without it; it stands in no place that others can look at."""
    without = "mosquitto_pub -h 127.0.0.1 -t x -m x 2>&1"
    refused = machine.run("sh", "-c", without, code=5).strip()
    process = machine.main_process(AGENT)
    proc = Path(f"/proc/{process.pid}")
    places = {
        "environment": (proc / "environ").read_bytes(),
        "command line": (proc / "cmdline").read_bytes(),
        "unit": machine.run("systemctl", "show", AGENT).encode(),
        "journal": machine.run("journalctl", "--output=export", "--no-pager").encode(),
        "console": machine.console.encode(),
    }
    places |= {
        str(file): file.read_bytes()
        for file in Path(f"/proc/{machine.init.pid}/root/var/lib/private").rglob("*")
        if file.is_file()
    }
    for place, content in places.items():
        assert PASSWORD.encode() not in content, f"the password stands in the {place}"
    folder = f"/run/credentials/{AGENT}"
    mode = machine.run("stat", "--format=%a %U", folder, f"{folder}/mqtt-password").split("\n")
    assert mode[1].startswith("4"), mode
    return f"credential {mode[:2]}; looked in {len(places)} places; without it: {refused!r}"


def wrong_password(machine: Machine) -> str:
    """Said in words; the agent goes on, and is let in once the password is right."""
    machine.write(PASSWORD_FILE, "wrong\n")
    machine.run("systemctl", "restart", AGENT)
    line = machine.said(AGENT, "check mqtt.username")
    assert machine.show(AGENT, "ActiveState") == "active"
    machine.write(PASSWORD_FILE, PASSWORD + "\n")
    machine.run("systemctl", "restart", AGENT)
    machine.said(AGENT, "connected to the broker")
    return line


def reload_good(machine: Machine) -> str:
    """What can change in a running service does, in the same process. From systemd 254 on, the
    command ends when it has."""
    version = int(machine.run("systemctl", "--version").split()[1])
    kind = machine.show(AGENT, "Type")
    assert kind == ("notify" if version < 254 else "notify-reload"), (version, kind)
    before = machine.show(AGENT, "MainPID")
    machine.write(CONFIG, config(more="on_delay_windows = 7\n"))
    machine.run("systemctl", "reload", AGENT)
    line = machine.said(AGENT, "reloaded: ")
    assert "on_delay_windows" in line, line
    assert machine.show(AGENT, "MainPID") == before
    assert machine.show(AGENT, "ActiveState") == "active"
    return f"Type={kind}: {line}"


def reload_bad(machine: Machine) -> str:
    """The journal has file, line and cure; everything is as before."""
    before = machine.show(AGENT, "MainPID")
    machine.write(CONFIG, config(more="on_delay_window = 7\n"))
    machine.run("systemctl", "reload", AGENT, code=None)
    line = machine.said(AGENT, "not reloaded, nothing has changed")
    assert "on_delay_windows" in line, line
    assert machine.show(AGENT, "MainPID") == before
    state = until(lambda: machine.show(AGENT, "ActiveState") == "active", "it is active", 5.0)
    assert state
    return line


def sandbox(machine: Machine) -> str:
    """What the kernel says of the running process."""
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{machine.main_process(AGENT).pid}/status").read_text().splitlines()
    )
    assert status["Uid"].split()[0] != "0", status["Uid"]
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    state = machine.run("stat", "--format=%a", "/var/lib/private/edge-agent").strip()
    assert state == "700", state
    return (
        f"uid {status['Uid'].split()[0]}, groups {status['Groups'].strip()}, no capability, "
        f"no new privileges, {status['Seccomp_filters']} seccomp filters, state folder {state}"
    )


def rules_hold(machine: Machine) -> str:
    """What else runs in the agent's cgroup reaches this machine only, and no foreign device."""
    machine.run("ip", "address", "add", f"{FOREIGN_ADDRESS}/32", "dev", "lo")
    machine.run("mknod", "/dev/foreign", "c", "1", "11")
    seen = machine.run("python3", "-c", PROBE).splitlines()
    machine.run("rm", "/dev/foreign")
    assert seen == [
        "127.0.0.1 sent", f"{FOREIGN_ADDRESS} Operation not permitted",
        "/dev/null opened", "/dev/foreign Operation not permitted",
    ], seen  # fmt: skip
    return "; ".join(seen)


def exposure(machine: Machine) -> str:
    """Of the loaded unit with its drop-in, by this systemd."""
    told = machine.run("systemd-analyze", "security", "--no-pager", f"--threshold={MAX_EXPOSURE}",
                       AGENT)  # fmt: skip
    return told.splitlines()[-1].lstrip("→ ").strip()


def verify(machine: Machine) -> str:
    """Neither an error nor a warning."""
    enter = "systemd-analyze verify edge-agent.service 2>&1"
    told = machine.run("sh", "-c", enter)
    assert told == "", told
    return machine.run("systemctl", "--version").splitlines()[0]


def stop(machine: Machine) -> str:
    """Ends well within its time, and says goodbye to the broker."""
    machine.write(CONFIG, config())
    machine.run("systemctl", "stop", AGENT)
    result = machine.show(AGENT, "Result"), machine.show(AGENT, "ExecMainStatus")
    assert result == ("success", "0"), result
    told = machine.run("mosquitto_sub", "-h", "127.0.0.1", "-u", READER, "-P", PASSWORD,
                       "-t", f"{TOPIC}/status", "-C", "1", "-W", "10")  # fmt: skip
    assert "stopped" in told, told
    took = int(machine.show(AGENT, "InactiveEnterTimestampMonotonic")) - int(
        machine.show(AGENT, "ActiveExitTimestampMonotonic")
    )
    return f"{took / 1e6:.2f} s, {TOPIC}/status: {told.strip()}"


def bad_config(machine: Machine) -> str:
    """78, and that is that: starting again doesn't mend a file."""
    machine.write(CONFIG, config(more="wrong = 1\n"))
    machine.run("systemctl", "start", AGENT, code=1)
    line = machine.said(AGENT, "wrong")
    time.sleep(2 * RESTART_SECONDS)
    state = machine.show(AGENT, "ActiveState"), machine.show(AGENT, "ExecMainStatus")
    assert state == ("failed", "78"), state
    assert machine.show(AGENT, "NRestarts") == "0", "it was started again"
    return f"status 78, not started again; {line}"


def listen(machine: Commands) -> None:
    """From now on the broker keeps events for us."""
    machine.run(*_subscriber(EVENTS), "-E")


def event(machine: Commands, replayed: bool, seconds: float = ALERT_SECONDS) -> dict[str, Any]:
    """The next one that was told at once, or late."""

    def next_one() -> dict[str, Any] | None:
        heard = machine.run(*_subscriber(EVENTS), "-C", "1", "-W", "5", code=None)
        told: dict[str, Any] = json.loads(heard) if heard.startswith("{") else {}
        return told if told.get("replayed") == replayed else None

    return until(next_one, f"an event with replayed = {replayed} at the broker", seconds)


def _subscriber(topic: str) -> tuple[str, ...]:
    """Debian's own, with a session that outlives it and the broker."""
    return ("mosquitto_sub", "-h", "127.0.0.1", "-u", READER, "-P", PASSWORD, "-c", "-i", READER,
            "-q", "1", "-t", topic)  # fmt: skip


def _started_anew(machine: Machine, before: str) -> None:
    def anew() -> bool:
        now = machine.show(AGENT, "ActiveState"), machine.show(AGENT, "MainPID")
        return now[0] == "active" and now[1] != before

    until(anew, "systemd starts it again", READY_SECONDS)
