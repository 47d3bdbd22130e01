"""Exchange: another bundle judges an asset while the service runs.

In: the name of an asset whose shelf has changed. Out: what lies there judges it from its next
sample on, and who must know is told; or a sentence why not, and the one before judges on.
Never: reads, verifies or builds a bundle while the loop waits, drops an episode, has more than
`MAX_ORDERS` waiting.

    shelf -> loaded as at the start, tried on the board's stream (a thread) -> swapped between two
    batches (the loop) -> panel, health, broker
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from edge_agent.assets import Asset, load_asset, remember_serials
from edge_agent.boards.session import BoardSession
from edge_agent.config import Config
from edge_agent.gateway import Gateway
from edge_agent.journal import Journal
from edge_agent.progress import known_as

MAX_ORDERS = 8
THREAD_NAME = "bundles"


class _Order(NamedTuple):
    """One asset; `loaded` comes from the thread, `answer` is for who has asked."""

    asset: str
    loaded: Future[Asset]
    answer: Future[dict[str, Any]]


class Exchange:
    """One thread that loads. All methods belong to the service's thread."""

    def __init__(
        self, assets: Mapping[str, Asset], sessions: Mapping[str, BoardSession], gateway: Gateway,
        journal: Journal,
    ) -> None:  # fmt: skip
        self._assets, self._sessions = assets, sessions
        self._gateway, self._journal = gateway, journal
        self._pool = ThreadPoolExecutor(1, initializer=known_as, initargs=(THREAD_NAME,))
        self._orders: deque[_Order] = deque()

    def order(self, config: Config, name: object) -> Future[dict[str, Any]]:
        """Has the asset judged by what lies on its shelf; the answer says what came of it, or
        raises `ValueError` in words. Raises `ValueError` if too many wait."""
        if len(self._orders) >= MAX_ORDERS:
            raise ValueError(f"{MAX_ORDERS} bundles are being loaded: try again")
        if not isinstance(name, str) or name not in self._assets:
            return _settled(False, f"{name} is not in the configuration that runs")
        session = self._sessions[config.assets[name].board]
        loaded = self._pool.submit(_load, config, name, session)
        order = _Order(name, loaded, Future())
        self._orders.append(order)
        return order.answer

    def tick(self, now_s: float) -> None:
        """Swaps what is loaded."""
        while self._orders and self._orders[0].loaded.done():
            order = self._orders.popleft()
            try:
                told = self._swapped(order, now_s)
            except ValueError as error:
                self._journal.error(f"{order.asset}: judged as before, by no other bundle: {error}")
                order.answer.set_exception(error)
            else:
                self._journal.info(told)
                order.answer.set_result({"taken_up": True, "told": told})

    def close(self) -> None:
        """Loads no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _swapped(self, order: _Order, now_s: float) -> str:
        error = order.loaded.exception()
        if isinstance(error, ValueError):
            raise error
        if error is not None:
            raise ValueError(f"{type(error).__name__}: {error}")
        asset, found = self._assets[order.asset], order.loaded.result()
        by = f"{asset.name}: {_named(found)}"
        if found.bundle == asset.bundle and not (asset.refusal or asset.fault):
            return f"{by} judges it already"
        session, gateway = self._sessions[asset.settings.board], self._gateway
        session.check(found)
        gateway.reports.panels[asset.name].adopt(found, now_s)
        session.renew(asset)
        gateway.meter.forget(asset.name)
        gateway.tell_anew()
        when = "now on" if asset.streaming else f"when board {session.name} streams"
        return f"{by} judges it from {when}" + (f"; {asset.note}" if asset.note else "")


def _load(config: Config, name: str, session: BoardSession) -> Asset:
    """On the thread, and with the same checks as at the start. Raises `ValueError` for what is
    refused, `OSError` if its serial can't be remembered."""
    found = load_asset(config, name)
    if found.refusal:
        raise ValueError(found.refusal)
    session.check(found)
    remember_serials(config.storage.state_dir, [found])
    return found


def _settled(taken_up: bool, told: str) -> Future[dict[str, Any]]:
    answer: Future[dict[str, Any]] = Future()
    answer.set_result({"taken_up": taken_up, "told": told})
    return answer


def _named(asset: Asset) -> str:
    bundle = asset.bundle
    return f"{bundle.name} serial {bundle.serial}" if bundle else "nothing"
