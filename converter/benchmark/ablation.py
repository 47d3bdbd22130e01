"""Ablation: what each part is worth, with it and without it, everything else being the same.

In: labelled recordings of `skab/`, and a machine that is made here. Out: a row an arm with its
interval over seeds; a line a question, with the interval of the differences seed by seed.
Never: another window, epoch, seed or alarm in one arm of a question than in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats  # type: ignore[import-untyped,unused-ignore]

from converter.benchmark.case import Case
from converter.benchmark.contest import RIVALS, feature_case
from converter.benchmark.families import Pair
from converter.benchmark.measures import mean_interval
from converter.benchmark.report import Key, Report, Request, run_families, run_rival
from converter.benchmark.slow import (
    Floats,
    case_name,
    mean_measures,
    measured_row,
    same_keys,
)
from converter.benchmark.suites import Judged, Suite, drift, judge, pump
from converter.benchmark.trace import Trace
from converter.models import MSE
from converter.models.memory import MemorySettings
from converter.models.training import TrainSettings

CONFIDENCE = 0.95
TRAIN = TrainSettings(epochs=30, batch_size=64, losses=MSE)
FORMS = ("int8", "float32")
SETS: tuple[Callable[[Path], Suite], ...] = (pump, lambda _: drift())
# What is compared, and which way is better.
COMPARED = {"auc": 1, "vus_pr": 1, "ap": 1, "f1": 1, "far": -1, "false_episodes_per_day": -1,
            "spearman": 1, "size_ratio": -1}  # fmt: skip


class Arm(NamedTuple):
    """A network, and what differs in its `Kind` and in its training."""

    family: str
    kind: Mapping[str, Any] = {}
    train: Mapping[str, Any] = {}

    @property
    def families(self) -> set[str]:
        """What must be wanted for it: a memory behind an LSTM is nothing to those who want none."""
        memory = self.kind.get("memory", MemorySettings())
        behind_lstm = self.family == "memory" and memory.encoder == "lstm"
        return {self.family, "lstm"} if behind_lstm else {self.family}


CONV_ENCODER = {"memory": MemorySettings(encoder="conv")}
ARMS = {
    "dense": Arm("dense"),
    "dense, denoised": Arm("dense", train={"denoise": 0.3}),
    "dense, fixed threshold": Arm("dense", {"adaptation": None}),
    "dense, spectral loss too": Arm("dense", train={"losses": (*MSE, ("spectral", 1.0))}),
    "dense, recency": Arm("dense", train={"losses": (("recency", 1.0),)}),
    "conv": Arm("conv"),
    "conv 32-64-128": Arm("conv", {"units": {"conv": (32, 64, 128)}}),
    "lstm step": Arm("lstm", {"form": "step"}),
    "memory lstm": Arm("memory"),
    "memory conv": Arm("memory", CONV_ENCODER),
    "memory conv, denoised": Arm("memory", CONV_ENCODER, {"denoise": 0.3}),
}
# The arm that has what is asked for, and the one that has not.
QUESTIONS = {
    "memory behind the same filters": ("memory conv", "conv 32-64-128"),
    "memory conv or conv": ("memory conv", "conv"),
    "memory lstm or lstm": ("memory lstm", "lstm step"),
    "spectral loss": ("dense, spectral loss too", "dense"),
    "recency": ("dense, recency", "dense"),
    "denoising, dense": ("dense, denoised", "dense"),
    "denoising, memory conv": ("memory conv, denoised", "memory conv"),
    "adaptive threshold": ("dense", "dense, fixed threshold"),
    "conv or dense": ("conv", "dense"),
    "lstm or dense": ("lstm step", "dense"),
    "memory conv or dense": ("memory conv", "dense"),
    "memory lstm or dense": ("memory lstm", "dense"),
}


class Interval(NamedTuple):
    """A mean and its t interval; no bounds where there is one value."""

    mean: float
    low: float | None
    high: float | None


class At(NamedTuple):
    """One arm on one set, as `FORMS` say."""

    suite: str
    arm: str
    form: str


Found = Mapping[At, list[Judged]]


def run(request: Request) -> Report:
    """Every arm of the wanted families on every set, then the rivals."""
    suites = {suite.name: suite for make in SETS for suite in [make(request.data)]}
    arms = {name: arm for name, arm in ARMS.items() if arm.families <= set(request.families)}
    pairs = _run_arms(request, suites.values(), arms)
    found: dict[At, list[Judged]] = {}
    for (name, arm), runs in pairs.items():
        judged = [_judged(suites[name], pair) for pair in runs]
        found |= {At(name, arm, form): [one[form] for one in judged] for form in FORMS}
    rows = [_row(at, judged) for at, judged in found.items()]
    for name, suite in suites.items():
        places = pairs[name, next(iter(arms))][0].int8.traces
        rows += _rival_rows(request, suite, places)
    answers = [
        _answer(name, question, found)
        for name in suites
        for question, sides in QUESTIONS.items()
        if set(sides) <= set(arms)
    ]
    notes = [f"{one['set']}, {one['name']}: {one['says']}" for one in answers] + [
        f"_low and _high: t intervals of {CONFIDENCE:.0%} over {request.seeds} seeds; a question's "
        "are of with - without, seed by seed: what other files would say they don't tell",
        "auc_files_low and _high: of the same difference, by a bootstrap over files",
        "of 20 such intervals one leaves out 0 by chance",
        "skab's front end and factor were compared on these labels",
    ]
    files = [test.name for suite in suites.values() for test in suite.case.tests]
    return Report("ablation", files, same_keys(rows), answers, notes)


def paired_interval(on: Sequence[float], off: Sequence[float]) -> Interval:
    """Of on - off, value by value."""
    return t_interval(np.subtract(on, off))


def t_interval(values: Sequence[float] | Floats) -> Interval:
    """Mean of at least one value and Student's interval of it."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Interval(mean, None, None)
    error = float(np.std(values, ddof=1)) / count**0.5
    reach = error * float(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, count - 1))
    return Interval(mean, mean - reach, mean + reach)


def _run_arms(
    request: Request, suites: Collection[Suite], arms: Mapping[str, Arm]
) -> dict[tuple[str, str], list[Pair]]:
    """By set and arm, a pair a seed."""
    runs: dict[Key, Pair] = {}
    for family in dict.fromkeys(arm.family for arm in arms.values()):
        cases = [_case(suite, name, arm)
                 for name, arm in arms.items() if arm.family == family
                 for suite in suites]  # fmt: skip
        runs |= run_families(replace(request, families=(family,)), cases)
    seeds = range(1, request.seeds + 1)
    return {
        (suite.name, name): [
            runs[Key(_case(suite, name, arm).name, arm.family, seed)] for seed in seeds
        ]
        for suite in suites
        for name, arm in arms.items()
    }


def _case(suite: Suite, name: str, arm: Arm) -> Case:
    kind = replace(suite.case.kind, train=replace(TRAIN, **arm.train), **arm.kind)
    return replace(suite.case, name=case_name(f"{suite.name} {name}"), kind=kind)


def _judged(suite: Suite, pair: Pair) -> dict[str, Judged]:
    """By form; what int8 has cost stands with int8."""
    found = {form: judge(suite, getattr(pair, form).traces) for form in FORMS}
    for form, one in found.items():
        outcome = getattr(pair, form)
        one.measures.update(latency_us=outcome.latency_us, bytes=float(outcome.bytes))
    after, before = (found[form].measures for form in FORMS)
    after |= pair.fidelity
    for key in ("auc", "f1"):
        if (new := after[key]) is not None and (old := before[key]) is not None:
            after[f"{key}_delta"] = new - old
    return found


def _row(at: At, judged: Sequence[Judged]) -> dict[str, Any]:
    measures = mean_measures(one.measures for one in judged)
    for key in COMPARED:
        values = _values(judged, key)
        _, low, high = t_interval(values) if values else (None, None, None)
        measures |= {f"{key}_low": low, f"{key}_high": high}
    int8 = at.form == "int8"
    name = f"{at.suite}: {at.arm} {at.form}"
    return measured_row(name, measures, shipped=int8, int8=int8, seeds=len(judged))


def _rival_rows(
    request: Request, suite: Suite, places: Mapping[str, Trace]
) -> list[dict[str, Any]]:
    """Rivals on the features that the networks get: a row of theirs is a window of ours."""
    case, rows = feature_case(suite.case), []
    request.steps.begin(f"rivals on {suite.name}", len(RIVALS))
    for number, rival in enumerate(RIVALS, 1):
        traces = {
            name: trace._replace(rows=places[name].rows, end_row=places[name].end_row)
            for name, trace in run_rival(rival, case).items()
        }
        rows.append(measured_row(f"{suite.name}: {rival.name}", judge(suite, traces).measures))
        request.steps.advance(number, rival.name)
    return rows


def _answer(suite: str, question: str, found: Found) -> dict[str, Any]:
    """What the int8 forms say, as they ship."""
    on, off = QUESTIONS[question]
    with_it, without = found[At(suite, on, "int8")], found[At(suite, off, "int8")]
    answer: dict[str, Any] = {"name": question, "set": suite, "with": on, "without": off}
    says = []
    for key, better in COMPARED.items():
        mean, low, high = paired_interval(_values(with_it, key), _values(without, key))
        answer |= {key: mean, f"{key}_low": low, f"{key}_high": high}
        if low is not None and high is not None and low * high > 0.0:
            says.append(f"{key} {'better' if mean * better > 0 else 'worse'}")
    gains = np.subtract(*(np.array([one.areas for one in side], float).mean(axis=0)
                          for side in (with_it, without)))  # fmt: skip
    files = mean_interval(gains[np.isfinite(gains)])
    answer |= {"auc_files": files.mean, "auc_files_low": files.low, "auc_files_high": files.high}
    return answer | {"says": ", ".join(says) or "no measurable difference"}


def _values(judged: Iterable[Judged], key: str) -> list[float]:
    """Of the seeds that have it."""
    return [value for one in judged if (value := one.measures.get(key)) is not None]
