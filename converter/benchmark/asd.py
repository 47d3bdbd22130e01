"""ASD: application servers of 19 metrics every 5 minutes (InterFusion, KDD 2021).

In: `asd/*.npz` as for SMD, `*_interpretation.txt`, `anomaly_type.csv` if there is one. Out: SMD's
measures, and the average precision on those segments that break the coupling of channels. Never:
counts a segment of another kind against that figure: its rows are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from converter.benchmark.ranking import average_precision
from converter.benchmark.report import Report, Request
from converter.benchmark.rivals import ALWAYS, EWMA_Z, FOREST, LAG_T2Q, NEVER, RESIDUAL_PCA
from converter.benchmark.slow import (
    Flags,
    Measures,
    Said,
    family_rows,
    files_below,
    read_table,
    rival_rows,
    same_keys,
    with_interval,
)
from converter.benchmark.smd import KIND as SMD_KIND
from converter.benchmark.smd import (
    Machine,
    add_named,
    machine_case,
    machine_series,
    measured,
    read_machine,
)
from converter.errors import UsageError

RATE_HZ = 1 / 300
# SMD's, unchanged but for the hop. 11 settings of a linear stand-in were seen on these labels;
# four of them had a higher figure than this one.
KIND = replace(SMD_KIND, train_hop=1)

# Of each machine the segments that break the coupling, and those that do not: rows, both inside.
Spans: TypeAlias = list[tuple[int, int]]


def run(request: Request) -> Report:
    """Every server: fitted on its train array, scored on its test array."""
    paths = files_below(request.data, "asd", "*.npz")
    machines = [read_machine(path, last_inside=True) for path in paths]
    coupled = _coupling(request.data / "asd" / "anomaly_type.csv")
    cases = [machine_case("asd", machine, KIND, RATE_HZ) for machine in machines]
    judge = partial(_measured, machines, coupled)
    rows, pairs = family_rows(request, cases, judge, 0)
    add_named(rows, machines, cases, pairs, request)
    rivals = (RESIDUAL_PCA, LAG_T2Q, EWMA_Z, FOREST, ALWAYS, NEVER)
    rows += rival_rows(rivals, cases, judge, 0)
    series = machine_series(machines, cases, pairs, request)
    notes = [
        "settings were compared on these labels: an upper bound, no blind result",
        "ap_coupling: rows of segments of a metric type against normal rows",
        "vus_pr: " + ", ".join(f"{m.name} buffer {m.buffer_rows}" for m in machines),
    ]
    return Report("asd", [path.name for path in paths], same_keys(rows), series, notes)


def _coupling(path: Path) -> dict[str, tuple[Spans, Spans]]:
    """Per machine the segments that break the coupling and the others."""
    if not path.exists():
        return {}
    header, lines = read_table(path)
    try:
        places = [header.index(name) for name in ("dataset", "anomaly_segment", "anomaly_type")]
        found: dict[str, tuple[Spans, Spans]] = {}
        for line in lines:
            name, span, kind = (line[place] for place in places)
            first, last = (int(row) for row in span.split("-"))
            found.setdefault(name, ([], []))["metric" not in kind].append((first, last))
    except ValueError as error:
        raise UsageError(f"{path}: {error}: expected dataset, first-last, type") from None
    return found


def _measured(
    machines: Sequence[Machine],
    coupled: Mapping[str, tuple[Spans, Spans]],
    said: Sequence[Said],
) -> Measures:
    precisions = []
    for machine, mine in zip(machines, said, strict=True):
        broken, other = (
            _rows(len(machine.label), spans) for spans in coupled.get(machine.name, ([], []))
        )
        kept = broken | ~(other | machine.label)
        precisions.append(average_precision(broken[kept], mine.scores[kept]))
    return with_interval("ap_coupling", precisions) | measured(machines, RATE_HZ, said)


def _rows(count: int, spans: Spans) -> Flags:
    flags = np.zeros(count, np.bool_)
    for first, last in spans:
        flags[first : last + 1] = True
    return flags
