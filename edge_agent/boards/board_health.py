"""Board health: one board's losses and oddities as flat numbers, and their sums for the gateway.

In: the counters of a session's link and assets, and the board's own from STATS. Out:
`BoardHealth`. Never: asks the board anything, keeps history, counts a loss twice.
"""

from __future__ import annotations

from pydantic import BaseModel

from edge_agent.boards.session import BoardSession


class BoardHealth(BaseModel):
    """One message on `<b>/board/<name>`. Counters count from the start of the agent, those that
    begin with `board_` from the board's last reset, and are the board's own."""

    board: str
    state: str
    trouble: str | None = None
    uid: str | None = None
    firmware: str | None = None
    sessions: int
    restarts: int
    bytes: int
    frames: int
    frames_bad_crc: int
    frames_bad_cobs: int
    frames_bad_frame: int
    frames_oversize: int
    frames_unexpected: int
    batches_refused: int
    batches_clipped: int
    batches_with_sensor_error: int
    samples: int
    samples_not_finite: int
    samples_lost_on_board: int
    samples_lost_on_wire: int
    samples_overwritten: int
    gaps: int
    clock_round_trip_ms: float | None = None
    clock_drift_ppm: float | None = None
    board_uptime_s: float | None = None
    board_reset_cause: int | None = None
    board_rx_ok: int | None = None
    board_rx_errors: int | None = None
    board_rx_overrun: int | None = None
    board_fifo_overrun: int | None = None
    board_tx_dropped: int | None = None


def board_health(session: BoardSession) -> BoardHealth:
    """The numbers now."""
    link = session.link
    seen, clock, own = link.decoder.counters, link.clock, link.board_stats
    streams = [assembler.counters for assembler in link.assemblers.values()]
    pipelines = [asset.pipeline for asset in session.assets if asset.pipeline]
    round_trip_s = clock.round_trip_s
    return BoardHealth(
        board=session.name,
        state=link.state.value,
        trouble=session.trouble or None,
        uid=link.schema.uid if link.schema else None,
        firmware=link.schema.firmware if link.schema else None,
        sessions=session.sessions,
        restarts=sum(stream.restarts for stream in streams),
        bytes=seen.bytes,
        frames=seen.frames,
        frames_bad_crc=seen.bad_crc,
        frames_bad_cobs=seen.bad_cobs,
        frames_bad_frame=seen.bad_frame,
        frames_oversize=seen.oversize,
        frames_unexpected=link.unexpected_frames,
        batches_refused=sum(stream.refused for stream in streams),
        batches_clipped=sum(stream.clipped_batches for stream in streams),
        batches_with_sensor_error=sum(stream.sensor_errors for stream in streams),
        samples=sum(stream.samples for stream in streams),
        samples_not_finite=sum(stream.not_finite for stream in streams),
        samples_lost_on_board=sum(stream.lost_on_board for stream in streams),
        samples_lost_on_wire=sum(stream.lost_on_wire for stream in streams),
        samples_overwritten=sum(pipeline.windows.overwritten for pipeline in pipelines),
        gaps=sum(stream.gaps for stream in streams),
        clock_round_trip_ms=None if round_trip_s is None else round(round_trip_s * 1e3, 3),
        clock_drift_ppm=None if round_trip_s is None else round(clock.drift_ppm, 2),
        board_uptime_s=own and own.uptime_ms / 1e3,
        board_reset_cause=own and own.reset_cause,
        board_rx_ok=own and own.rx_ok,
        board_rx_errors=own and own.bad_crc + own.bad_cobs + own.oversize,
        board_rx_overrun=own and own.rx_overrun,
        board_fifo_overrun=own and own.fifo_overrun,
        board_tx_dropped=own and own.tx_dropped,
    )
