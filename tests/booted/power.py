"""Power: a virtual machine whose clock is wrong, whose board comes late, and whose power goes.

In: the layers, a free folder. Out: verdicts of two boots with a power cut between them.
Never: lets the second boot see a write that the first had not flushed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.booted import gateway
from tests.booted.commands import Commands, until
from tests.booted.layer import AGENT, BROKER, UNITS, config, write
from tests.booted.powercut import Cut, after_cut, copied
from tests.booted.root import root
from tests.booted.verdict import Verdict, judged
from tests.booted.virtual import VirtualMachine, image
from tests.programs import board

PORT = "/dev/serial/by-id/usb-QEMU_QEMU_USB_SERIAL_0042-if00-port0"
NO_CLOCK = "1970-01-02"
# Emulated, everything takes 20 to 50 times as long as on the processor beneath.
READY_SECONDS = 240.0
ALERT_SECONDS = 120.0
SETTLE_SECONDS = 10.0
LOST = "/var/tmp/lost"
SLOW_START = "[Service]\nTimeoutStartSec=240\n"
TODAY = "2026-11-22 12:00:00"


def prepare(layer: Path) -> None:
    """The port of a real board, and more time to start."""
    write(layer, "etc/otolith/agent.toml", config(port=PORT))
    write(layer, f"{UNITS}/{AGENT}.d/slow.conf", SLOW_START)


def verdicts(layer: Path, folder: Path) -> Iterator[Verdict]:
    """Both boots."""
    debian = root("bookworm")
    disk = image((layer, debian), folder)
    after, log = copied(disk, folder / "after.img"), folder / "writes.log"
    simulated = ("--machine", "vibration", "--fault", "bearing:1:36000:1:y")
    with board(folder / "press.tty", *simulated), ExitStack() as stack:
        port = folder / "press.tty"
        machine = VirtualMachine(debian / "boot", disk, port, log, NO_CLOCK)
        stack.callback(machine.cut_power)
        yield judged("vm", "ready without clock, broker and board", partial(ready, machine))
        yield judged("vm", "the first board is plugged in later", partial(plugged, machine))
        yield judged("vm", "the clock is set", partial(clock_set, machine))
        yield judged("vm", "an alarm waits", partial(waits, machine))
        # Reaches the disk but is not flushed: it must be lost, or the cut was none.
        machine.run("dd", "if=/dev/zero", f"of={LOST}", "bs=4k", "count=8", "oflag=direct")
        machine.cut_power()
        cut = after_cut(after, log)
        second = VirtualMachine(debian / "boot", after, port, folder / "second.log", NO_CLOCK)
        stack.callback(second.cut_power)
        yield judged("vm", "the file system recovers", partial(recovered, second, cut))
        yield judged("vm", "the alarm is told after the power cut", partial(told, second))


def ready(machine: VirtualMachine) -> str:
    """A gateway without a battery for its clock, on its own."""
    until(lambda: machine.show(AGENT, "ActiveState") == "active", "the agent is ready",
          READY_SECONDS)  # fmt: skip
    machine.said(AGENT, "does not exist")
    machine.said(AGENT, "nothing listens there")
    begun, done = (
        int(machine.show(AGENT, name))
        for name in ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    )
    date = machine.run("date").strip()
    return f"clock: {date}; READY=1 after {(done - begun) / 1e6:.0f} s, emulated"


def plugged(machine: VirtualMachine) -> str:
    """Its driver's device class was allowed before any such device was there."""
    kinds = re.findall(r"tty[A-Z]+$", machine.run("cat", "/proc/devices"), re.MULTILINE)
    assert {"ttyACM", "ttyUSB"} <= set(kinds), kinds
    assert not machine.run("sh", "-c", "ls /dev/ttyUSB* || true").strip()
    machine.plug_in()
    line = machine.said(AGENT, "board press: streaming", ALERT_SECONDS)
    owner = machine.run("stat", "--dereference", "--format=%U:%G %a", PORT).strip()
    return f"{line}; {owner}"


def clock_set(machine: VirtualMachine) -> str:
    """Years pass at once; nothing takes that for silence."""
    before = machine.run("date", "+%F").strip()
    machine.run("date", "--set", TODAY)
    time.sleep(SETTLE_SECONDS)
    state = machine.show(AGENT, "ActiveState"), machine.show(AGENT, "NRestarts")
    assert state == ("active", "0"), state
    assert "1/1 boards streaming" in machine.show(AGENT, "StatusText")
    return f"{before} -> {TODAY}; active, not restarted"


def waits(machine: VirtualMachine) -> str:
    """The alarm is on the disk as soon as the status line counts it."""
    begun = machine.said(AGENT, "alarm begin", ALERT_SECONDS)

    def waiting() -> str | None:
        text = machine.show(AGENT, "StatusText")
        return text if re.search("[1-9][0-9]* waiting", text) else None

    return f"{begun}; {until(waiting, 'it waits in the outbox', ALERT_SECONDS)}"


def recovered(machine: VirtualMachine, cut: Cut) -> str:
    """The kernel replays its journal, systemd comes up without a failed unit."""
    kernel = machine.run("dmesg")
    line = re.findall(r"EXT4-fs .*recovery complete.*|.*recovering journal.*", kernel)
    line += re.findall(r".*recovering journal.*", machine.console)
    assert line, "no journal was replayed: was the power cut?"
    failed = machine.run("systemctl", "list-units", "--failed", "--no-legend", "--plain")
    assert not failed.strip(), failed
    assert cut.lost, "every write had been flushed: the cut has tried nothing"
    return f"{cut.lost} of {cut.kept + cut.lost} writes lost; {line[0].strip()}"


def told(machine: Commands) -> str:
    """What waited is told, as late, once the broker is back."""
    until(lambda: machine.show(AGENT, "ActiveState") == "active", "the agent is ready",
          READY_SECONDS)  # fmt: skip
    text = machine.show(AGENT, "StatusText")
    machine.run("systemctl", "stop", AGENT)
    machine.run("systemctl", "start", BROKER)
    gateway.listen(machine)
    machine.run("systemctl", "start", "--no-block", AGENT)
    event = gateway.event(machine, replayed=True, seconds=READY_SECONDS)
    assert event["kind"] == "begin", event
    return f"{text!r}; {event['kind']} {event['event_id']} at {event['ts']}: {event['why']}"
