"""Families: our own detectors, built by the converter and run by the agent's pipeline.

In: a case, a family, a seed. Out: what its float and its int8 form say of every test, and how far
apart they are. Never: a threshold that was not commissioned on this form's own held-out scores, a
second way to a score.

What was once run is not run again: results lie in a cache by the hash of everything that they
depend on, so a broken-off benchmark goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import converter
from converter.benchmark.case import Case
from converter.benchmark.trace import Trace, joined, run_pipeline
from converter.build import BuildSettings, Roles, build
from converter.errors import ConverterError
from converter.evaluate import Scores, spearman
from converter.fidelity import Limits, Rated
from edge_agent.bundles.manifest import Manifest
from edge_agent.judging.pipeline import Model
from edge_agent.judging.threshold import commission

# Every result is wanted here, also that of an int8 model which `build` would refuse.
NO_LIMITS = Limits(auc_loss=1.0, spearman=-1.0, agreement=0.0, size_ratio=100.0)
# What a result depends on beside its settings and its data.
SOURCES = (
    "converter/benchmark/families.py", "converter/benchmark/trace.py", "converter/build.py",
    "converter/build_settings.py", "converter/dataset.py", "converter/quantize.py",
    "converter/convert_child.py", "converter/models/*.py", "edge_agent/bundles/memory.py",
    "edge_agent/bundles/model.py", "edge_agent/bundles/stepping.py",
    "edge_agent/judging/pipeline.py", "edge_agent/judging/front_end.py",
    "edge_agent/judging/scoring.py", "edge_agent/judging/threshold.py",
    "edge_agent/judging/alarm.py", "edge_agent/judging/window.py",
)  # fmt: skip


class Outcome(NamedTuple):
    """One form of one family on one case: a trace a test, and what `build` measured; `held_out` are
    the scores that its threshold was commissioned on."""

    traces: dict[str, Trace]
    held_out: Scores
    bytes: int
    latency_us: float
    provisional: bool


class Pair(NamedTuple):
    """Float and int8 of the same weights."""

    float32: Outcome
    int8: Outcome

    @property
    def fidelity(self) -> dict[str, float]:
        """Spearman over all windows of all tests, size, and in how many alarmed windows the same
        channel comes first."""
        before, after = self.float32.traces, self.int8.traces
        same: list[np.typing.NDArray[np.bool_]] = []
        for name, trace in after.items():
            other = before[name].by_channel
            if trace.by_channel is not None and other is not None:
                agree = trace.by_channel.argmax(axis=1) == other.argmax(axis=1)
                same.append(agree[trace.over])
        agreed = np.concatenate(same) if same else np.empty(0, np.bool_)
        found = {
            "spearman": spearman(joined(before.values()), joined(after.values())),
            "size_ratio": self.int8.bytes / self.float32.bytes,
        }
        return found | ({"top_channel_same": float(agreed.mean())} if len(agreed) else {})


def run_family(case: Case, family: str, seed: int, cache: Path) -> Pair:
    """Builds and runs, or remembers. Raises `ConverterError` if it can't be built."""
    file = cache / f"{case.name}-{family}-{seed}-{_key(case, family, seed)}.npz"
    if file.exists():
        return _load(file)
    built = build(_settings(case, family, seed), Roles(case.recordings(), [], []))
    comparison, manifest = built.comparison, built.manifest
    if comparison.int8 is None or manifest is None or built.runners.int8 is None:
        raise ConverterError(f"{case.name}, {family}: no int8: {'; '.join(comparison.reasons)}")
    pair = Pair(
        _outcome(case, manifest, comparison.float32, built.runners.float32),
        _outcome(case, manifest, comparison.int8, built.runners.int8),
    )
    cache.mkdir(parents=True, exist_ok=True)
    _save(file, pair)
    return pair


def _settings(case: Case, family: str, seed: int) -> BuildSettings:
    kind = case.kind
    return BuildSettings(
        name=case.name,
        family=family,
        front_end=kind.front_end,
        window=kind.window,
        train_hop=kind.train_hop,
        units=kind.units.get(family, ()),
        shares=kind.shares,
        train=replace(kind.train, seed=seed),
        headroom=kind.headroom,
        activation=kind.activation.get(family, ""),
        memory=kind.memory,
        form=kind.form,
        qat=kind.qat,
        score=kind.score,
        q=kind.q,
        factor=kind.factor,
        alarm=kind.alarm,
        limits=NO_LIMITS,
    )


def _outcome(case: Case, manifest: Manifest, rated: Rated, model: Model) -> Outcome:
    kind = case.kind
    threshold = commission(rated.held_out, "quantile", kind.q, kind.factor, kind.adaptation)
    changes = {"threshold": threshold, "normal_error": rated.normal_error}
    mine = manifest.model_copy(update=changes)
    traces = {test.name: run_pipeline(mine, model, test.rows) for test in case.tests}
    return Outcome(traces, rated.held_out, rated.bytes, rated.latency_us, threshold.provisional)


def _key(case: Case, family: str, seed: int) -> str:
    digest = hashlib.sha256()
    for rows in (*case.normal, *(test.rows for test in case.tests)):
        digest.update(np.ascontiguousarray(rows).tobytes())
    kind = {**asdict(case.kind), "front_end": case.kind.front_end.model_dump()}
    kind |= {"window": case.kind.window.model_dump(), "alarm": case.kind.alarm.model_dump()}
    kind["shares"] = case.kind.shares._asdict()
    digest.update(json.dumps([case.sensor.model_dump(), kind, family, seed]).encode())
    project = Path(converter.__file__).parent.parent
    for pattern in SOURCES:
        for source in sorted(project.glob(pattern)):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:24]


def _save(file: Path, pair: Pair) -> None:
    arrays: dict[str, Any] = {}
    about: dict[str, Any] = {}
    for form, outcome in pair._asdict().items():
        about[form] = {
            "bytes": outcome.bytes,
            "latency_us": outcome.latency_us,
            "provisional": outcome.provisional,
            "tests": list(outcome.traces),
            "rows": [trace.rows for trace in outcome.traces.values()],
        }
        arrays[f"{form}/held_out"] = outcome.held_out
        for number, trace in enumerate(outcome.traces.values()):
            for field, values in trace._asdict().items():
                if field != "rows" and values is not None:
                    arrays[f"{form}/{number}/{field}"] = values
    half_written = file.with_suffix(".tmp.npz")
    np.savez_compressed(half_written, about=json.dumps(about), **arrays)
    half_written.rename(file)


def _load(file: Path) -> Pair:
    with np.load(file, allow_pickle=False) as stored:
        about = json.loads(str(stored["about"]))
        outcomes = []
        for form in Pair._fields:
            mine = about[form]
            traces = {}
            for number, (name, rows) in enumerate(zip(mine["tests"], mine["rows"], strict=True)):
                fields = {
                    field: stored[key]
                    for field in Trace._fields
                    if (key := f"{form}/{number}/{field}") in stored
                }
                traces[name] = Trace(rows=rows, **fields)
            held_out = stored[f"{form}/held_out"]
            outcomes.append(
                Outcome(traces, held_out, mine["bytes"], mine["latency_us"], mine["provisional"])
            )
    return Pair(*outcomes)
