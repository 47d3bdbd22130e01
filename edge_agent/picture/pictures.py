"""Pictures: the map of an alarm, drawn beside the loop.

In: the worst score of an episode that people were told of. Out: its `Explanation`, some time later.
Never: lets the loop wait (the first picture loads a library, which takes a card half a second),
keeps more than a few orders: an alarm without a picture is an alarm all the same.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from edge_agent.judging.pipeline import Pipeline
from edge_agent.judging.scoring import Score
from edge_agent.picture.explanation import Explanation, explanation
from edge_agent.picture.heat_map import Caption

MAX_ORDERS = 8


class Pictures:
    """One thread that draws. All methods belong to the service's thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._orders: deque[Future[Explanation]] = deque()
        self.dropped = 0

    def order(self, caption: Caption, score: Score, pipeline: Pipeline) -> None:
        """Has one drawn."""
        if len(self._orders) >= MAX_ORDERS:
            self.dropped += 1
            return
        sensor, labels = pipeline.manifest.sensor, pipeline.front_end.labels
        step_seconds = pipeline.front_end.decimate / sensor.rate_hz
        self._orders.append(
            self._pool.submit(explanation, caption, score, sensor, labels, step_seconds)
        )

    def done(self) -> list[Explanation]:
        """Those that are ready, in the order in which they were asked for."""
        ready = []
        while self._orders and self._orders[0].done():
            ready.append(self._orders.popleft().result())
        return ready

    def close(self) -> None:
        """Draws no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
