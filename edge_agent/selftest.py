"""Selftest: whether this version computes on this machine what it computed where it was built.

In: the default bundles, their golden scores (`golden.json` beside them), a folder to try SQLite
in. Out: one `Check` for each question, exit 1 if one answer is wrong. Never: a second scoring path
(the recordings are made here from a seed and replayed), touches what the service has stored,
needs a board, a broker, a network or a configuration.

`--write` makes golden scores: `make default-bundles` runs it whenever the bundles are built anew.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.broker.messages import Message
from edge_agent.broker.store import Limits, Row, open_store
from edge_agent.bundles.bundle import Bundle, read_bundle
from edge_agent.bundles.interpreter import HAS_XNNPACK, RUNTIME, Network
from edge_agent.commands import EXIT_NO, EXIT_OK, line, say, tell
from edge_agent.judging.pipeline import Judgement
from edge_agent.replay import Replay
from edge_agent.versions import version_of
from firmware_bridge.sampler import sampled
from firmware_bridge.signals import Fault
from firmware_bridge.simulator import machine_sources

BUNDLES = Path(__file__).resolve().parent / "default_bundle"
GOLDEN_NAME = "golden.json"
SEED = 7
# A machine that is well and then isn't: its fault, and the seconds until then and in all.
MACHINES = {"vibration": ("bearing", 6.0, 12.0), "compass": ("drift", 20.0, 60.0)}
# Of each score. An input on the edge between two int8 levels moves a score by less; kernels
# without XNNPACK move it by up to 0.011, and whoever has none (32-bit Arm) can't be held to less.
TOLERANCE = 0.002
TOLERANCE_WITHOUT_XNNPACK = 0.05
# Of an SQLite file: both are 2 in the mode that the service relies on.
WAL_BYTES = slice(18, 20)


class Check(NamedTuple):
    """One question and its answer, in words."""

    what: str
    ok: bool
    found: str


def selftest(options: Namespace) -> int:
    """`edge-agent selftest [--state DIR] [--write FILE] [--json]`."""
    if options.write:
        options.write.write_text(json.dumps(golden(BUNDLES), indent=1) + "\n")
        tell(f"{options.write}: the scores of this machine")
        return EXIT_OK
    if not options.json:
        line(", ".join(f"{name} {text}" for name, text in versions().items()))
    wrong = 0
    for check in checks(BUNDLES, options.state):
        wrong += not check.ok
        if options.json:
            say(**check._asdict())
        else:
            line(f"{'ok' if check.ok else 'WRONG':6}{check.what:20}{check.found}")
    if options.json:
        say(ok=not wrong, wrong=wrong, versions=versions())
    elif wrong:
        tell(f"{wrong} wrong: this version should not judge machines here; install it anew")
    return EXIT_NO if wrong else EXIT_OK


def versions() -> dict[str, str]:
    """What computes here."""
    found = {"otolith": version_of("otolith") or "unknown", "Python": platform.python_version()}
    found |= {name: version_of(name) or "unknown" for name in (RUNTIME, "numpy")}
    return {**found, "machine": platform.machine()}


def checks(folder: Path, state: Path | None) -> Iterator[Check]:
    """Every question, one after the other; a failure of one does not hide the others."""
    try:
        golden_scores = json.loads((folder / GOLDEN_NAME).read_bytes())
    except ValueError as error:
        golden_scores = {}
        yield Check("golden", False, f"{folder / GOLDEN_NAME} is damaged: {error}")
    for name in MACHINES:
        try:
            bundle = read_bundle(folder / f"{name}.otolith")
            yield _delegate(name, bundle)
            yield _scores(name, bundle, golden_scores.get(name, {}))
        except (OSError, ValueError) as error:
            yield Check(name, False, str(error))
    yield _storage(state)


def golden(folder: Path) -> dict[str, Any]:
    """What the bundles of a folder make of the seeded recordings here: the content of
    `golden.json`."""
    found = {}
    for name in MACHINES:
        bundle, recording = read_bundle(folder / f"{name}.otolith"), seeded(name)
        found[name] = {
            "bundle_sha256": bundle.sha256, "recording_sha256": _digest(recording),
            "scores": scores(recording, bundle),
        }  # fmt: skip
    return found


def seeded(machine: str) -> bytes:
    """A recording of a simulated machine, the same bytes everywhere."""
    kind, start_s, seconds = MACHINES[machine]
    document, sources = machine_sources([machine], SEED, faults=[Fault(kind, start_s)])
    return b"".join(sampled(document, sources, seconds))


def scores(recording: bytes, bundle: Bundle) -> list[float]:
    """The score of each window. Raises `ModelError` for a model that does not run here."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "seeded.rec"
        file.write_bytes(recording)
        facts = Replay(file, bundle).facts()
        return [fact.score.value for fact in facts if isinstance(fact, Judgement)]


def _delegate(name: str, bundle: Bundle) -> Check:
    networks = [content for file, content in bundle.files.items() if file.endswith(".tflite")]
    if not HAS_XNNPACK:
        return Check(f"{name} kernels", True, f"{RUNTIME} has no XNNPACK for int8 networks")
    active = all(Network(content).delegated for content in networks)
    if active:
        return Check(f"{name} kernels", True, "XNNPACK is active")
    return Check(f"{name} kernels", False,
                 "without XNNPACK, so scores differ: is /proc/cpuinfo readable here?")  # fmt: skip


def _scores(name: str, bundle: Bundle, expected: dict[str, Any]) -> Check:
    recording, what = seeded(name), f"{name} scores"
    for of, found in (("bundle", bundle.sha256), ("recording", _digest(recording))):
        if (wanted := expected.get(f"{of}_sha256")) != found:
            return Check(what, False, f"{of} {found[:12]}, expected {str(wanted)[:12]}")
    found_scores, wanted_scores = scores(recording, bundle), expected["scores"]
    if found_scores == wanted_scores:
        return Check(what, True, f"{len(found_scores)} scores, each as expected bit for bit")
    if len(found_scores) != len(wanted_scores):
        return Check(what, False, f"{len(found_scores)} scores, expected {len(wanted_scores)}")
    tolerance = TOLERANCE if HAS_XNNPACK else TOLERANCE_WITHOUT_XNNPACK
    pairs = zip(found_scores, wanted_scores, strict=True)
    apart = [abs(found - wanted) / wanted for found, wanted in pairs]
    # Not `max(apart) <= tolerance`: a score that is no number could hide behind the others.
    return Check(what, all(each <= tolerance for each in apart),
                 f"{len(apart)} scores, up to {max(apart):.2g} of a score from what is expected; "
                 f"{tolerance:g} is allowed")  # fmt: skip


def _storage(state: Path | None) -> Check:
    """Writes and reads as the outbox does, in a folder of its own that is gone afterwards."""
    where = str(state or tempfile.gettempdir())
    message = Message("selftest", b"kept", alert=True)
    try:
        with tempfile.TemporaryDirectory(dir=state, prefix="selftest-") as folder:
            file = Path(folder) / "selftest.sqlite"
            store, _ = open_store(file, Limits())
            store.write([Row(1, message)], [])
            store.close()
            wal = file.read_bytes()[WAL_BYTES] == b"\x02\x02"
            store, _ = open_store(file, Limits())
            found = store.pending(0, 2)
            store.close()
    except OSError as error:
        return Check("storage", False, f"{where}: {error.strerror or error}")
    ok = wal and found == [Row(1, message)]
    how = "write-ahead log" if wal else "no write-ahead log: is it a network file system?"
    return Check("storage", ok, f"{where}: written, closed, read back; {how}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
