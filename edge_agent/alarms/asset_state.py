"""Asset state: what the gateway knows of an asset beyond a restart.

In: the state of alarm, threshold and annunciator. Out: bytes for the store, and back, in the time
of the process that reads them. Never: trusts what it reads; a state that makes no sense is none,
but one of a later version is: after a rollback an episode goes on, and its numbers do.

Times are host seconds, which begin anew with each boot. In the same boot they just go on; in
another, the wall clock says how long the gateway was off, and if it can't (there is no battery, it
went backwards), no time has passed: a snooze rather lasts too long than it is forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_agent.alarms.annunciator import AnnunciatorState, found_again
from edge_agent.broker.payloads import State
from edge_agent.judging.pipeline import PipelineState


class Now(NamedTuple):
    """This boot, and its clocks."""

    boot_id: str
    wall_s: float
    monotonic_s: float


class AssetState(BaseModel):
    """All that is remembered of an asset; `state` is what was last published."""

    model_config = ConfigDict(extra="ignore")

    now: Now
    pipeline: PipelineState
    annunciator: AnnunciatorState
    frozen: bool = False
    state: State | None = None


def dump_state(state: AssetState) -> bytes:
    """For the store."""
    return state.model_dump_json().encode()


def load_state(stored: bytes, now: Now) -> AssetState | None:
    """From the store, in today's time."""
    try:
        state = AssetState.model_validate_json(stored)
    except ValidationError:
        return None
    if state.now.boot_id != now.boot_id:
        off_seconds = max(0.0, now.wall_s - state.now.wall_s)
        _shift(state, now.monotonic_s - off_seconds - state.now.monotonic_s)
    alarm = state.pipeline.alarm = found_again(state.pipeline.alarm, state.annunciator)
    if alarm.active and state.state:
        # What got worse and was held back is found again, too.
        alarm.severity = min(alarm.severity, state.state.severity)
    return state


def _shift(state: AssetState, seconds: float) -> None:
    told, alarm = state.annunciator, state.pipeline.alarm
    alarm.first_over_t += seconds
    told.told_t += seconds
    told.begins_t = [t + seconds for t in told.begins_t]
    if told.end_t is not None:
        told.end_t += seconds
    if told.snoozed_until_t:
        told.snoozed_until_t += seconds
