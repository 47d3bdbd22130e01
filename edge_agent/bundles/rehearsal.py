"""Rehearsal: a bundle runs once, in a process of its own, before it may judge.

In: the bytes of a verified bundle. Out: nothing, or why it can't run. Never: lets a model that
crashes the interpreter, takes all memory or never ends do so in the service.

    python -m edge_agent.bundles.rehearsal < NAME.otolith      0: it runs; 1: why not, in one line
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from edge_agent.bundles.bundle import MAX_BUNDLE_BYTES, Bundle, BundleError, verified
from edge_agent.bundles.model import model_of
from edge_agent.judging.pipeline import Judgement, Pipeline
from firmware_bridge.samples import Samples

ROWS_AT_ONCE = 4096
# A slow front end may need hours of data for a window: its model has run by then.
MAX_ROWS = 1 << 20
WINDOWS = 3
# More than this beside what the interpreter itself needs is no model for a gateway.
MAX_MORE_BYTES = 512 << 20
MAX_SECONDS = 60.0
PACKAGES = Path(__file__).resolve().parents[2]


def rehearse(name: str, content: bytes, owner: tuple[int, int] | None = None) -> float:
    """Milliseconds a window takes here. `owner`: the user and group to run as, for root.

    Raises `BundleError` if the bundle can't run, `OSError` if no process can be started.
    """
    command = [sys.executable, "-m", "edge_agent.bundles.rehearsal", *map(str, owner or ())]
    try:
        done = subprocess.run(
            command, input=content, cwd=PACKAGES, capture_output=True, timeout=MAX_SECONDS,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BundleError(
            f"{name}: {WINDOWS} windows take longer than {MAX_SECONDS:.0f} s here: "
            "build a smaller model"
        ) from None
    if done.returncode < 0:
        raise BundleError(
            f"{name} ends the process that runs it (signal {-done.returncode}): build it anew"
        )
    if done.returncode:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise BundleError(f"{name} does not run here: {told[-1][:300]}")
    return float(json.loads(done.stdout)["ms"])


def main() -> int:
    """The child."""
    try:
        bundle = verified("it", sys.stdin.buffer.read(MAX_BUNDLE_BYTES))
        _become(*map(int, sys.argv[1:]))
        _bound_memory()
        began_s = time.perf_counter()
        windows = _run(bundle)
        ms = 1e3 * (time.perf_counter() - began_s) / windows
    except MemoryError:
        sys.stderr.write(f"it needs more than {MAX_MORE_BYTES >> 20} MB: build a smaller one\n")
        return 1
    except ValueError as error:  # BundleError, ModelError
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps({"windows": windows, "ms": round(ms, 3)}))
    return 0


def _run(bundle: Bundle) -> int:
    """Zeros through the model, then plain noise through the whole pipeline; how many windows.
    Raises `ValueError` if one has no finite score."""
    manifest = bundle.manifest
    sensor, model = manifest.sensor, model_of(manifest.model, bundle.files)
    zeros = np.zeros((manifest.model.steps, manifest.model.features), np.float32)
    if not np.isfinite(model(zeros)).all():
        raise BundleError("its model makes no finite numbers of zeros: build it anew")
    pipeline, random = Pipeline("rehearsal", manifest, model), np.random.default_rng(7)
    windows = at = 0
    while windows < WINDOWS and at < MAX_ROWS:
        noise = random.normal(size=(ROWS_AT_ONCE, len(sensor.channels))).astype(np.float32)
        samples = Samples(0, at, at / sensor.rate_hz, sensor.rate_hz, noise, 0, False, 0)
        for fact in pipeline.feed(samples):
            if isinstance(fact, Judgement):
                windows += 1
                if not math.isfinite(fact.score.value):
                    raise BundleError("a window of plain noise has no finite score: build it anew")
        at += ROWS_AT_ONCE
    return windows + 1


def _become(user: int | None = None, group: int | None = None) -> None:
    """Root's child gives its rights away before the model runs."""
    if user is not None and group is not None:
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)


def _bound_memory() -> None:
    """The parent has other things to do than to be killed for what the child takes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MAX_MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    sys.exit(main())
