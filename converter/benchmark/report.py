"""Report: what every protocol gets and what it gives back; and how its cases are run.

In: a folder of recordings, families, seeds. Out: rows of one table, and what is known of single
series. Never: a measure that the protocol did not compute itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from converter.benchmark.case import Case
from converter.benchmark.families import Pair, run_family
from converter.benchmark.rivals import Fitted, Rival
from converter.benchmark.trace import Trace, run_alarm
from converter.console import Silent, Steps
from edge_agent.judging.threshold import commission

# Of a rival's training rows so many are kept back for its threshold, as a bundle keeps them.
CALIBRATION_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for."""

    data: Path
    families: tuple[str, ...]
    seeds: int
    cache: Path
    jobs: int = 1
    steps: Steps = field(default_factory=Silent)


class Report(NamedTuple):
    """`rows` have the keys detector, shipped, int8, seeds and the measures of the protocol, None
    where one can't be had; `series` have a name each; `notes` are for people."""

    protocol: str
    files: list[str]
    rows: list[dict[str, Any]]
    series: list[dict[str, Any]]
    notes: list[str]


Protocol: TypeAlias = Callable[[Request], Report]


class Key(NamedTuple):
    """One run of one family."""

    case: str
    family: str
    seed: int


def run_families(request: Request, cases: Sequence[Case]) -> dict[Key, Pair]:
    """Every family on every case with every seed (1, 2, ...), from the cache where it can be."""
    wanted = [
        (Key(case.name, family, seed), case)
        for seed in range(1, request.seeds + 1)
        for family in request.families
        for case in cases
    ]
    request.steps.begin("families", len(wanted))
    pairs: dict[Key, Pair] = {}

    def run(key: Key, case: Case) -> None:
        pairs[key] = run_family(case, key.family, key.seed, request.cache)
        request.steps.advance(len(pairs), f"{key.case} {key.family} {key.seed}")

    with ThreadPoolExecutor(request.jobs) as pool:
        for job in [pool.submit(run, *each) for each in wanted]:
            job.result()
    return {key: pairs[key] for key, _ in wanted}


def run_rival(rival: Rival, case: Case) -> dict[str, Trace]:
    """A rival on the rows of a case's tests, under the same threshold rule and the same alarm. It
    is fitted on the first part of each normal run and its threshold set on the rest; one that
    comes with its own limit keeps it."""
    kind, normal = case.kind, [run.astype(np.float64) for run in case.normal]
    cuts = [round(len(run) * (1 - CALIBRATION_SHARE)) for run in normal]
    fit = np.concatenate([run[:cut] for run, cut in zip(normal, cuts, strict=True)])
    kept = [run[cut:] for run, cut in zip(normal, cuts, strict=True)]
    fitted: Fitted = rival.fit(fit)
    calibration = np.concatenate([fitted.score(run) for run in kept])
    spec = commission(calibration, "quantile", kind.q, kind.factor, kind.adaptation)
    if fitted.limit is not None:
        spec = spec.model_copy(update={"value": fitted.limit, "adaptation": None})
    traces = {}
    for test in case.tests:
        scores = fitted.score(test.rows.astype(float))
        ends = np.arange(1, len(scores) + 1)
        traces[test.name] = run_alarm(scores, ends, len(test.rows), spec, kind.alarm)
    return traces
