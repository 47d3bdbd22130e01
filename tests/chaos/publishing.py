"""A publisher to be killed: `python -m tests.chaos.publishing STATE_FOLDER PORT FIRST_NUMBER`.

Offers numbered alerts as fast as a gateway never would, and prints each number up to which all are
on the disk.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from edge_agent.broker.messages import Message
from edge_agent.config import MqttSettings
from tests.publishers import Agent

MAX_AT_ONCE = 20
PADDING = 400


def alert(number: int, asset: str = "pump", padding: int = 0) -> Message:
    """One with the fields that a ledger reads; `padding` makes it as long as a real one, and
    no easier to compress. The same for the same number."""
    event = {
        "event_id": f"{asset}-{number}", "seq": 1, "kind": "begin", "asset": asset, "n": number,
        "replayed": False, "why": random.Random(number).randbytes(padding // 2).hex(),
    }  # fmt: skip
    payload = json.dumps(event, separators=(",", ":")).encode()
    return Message(f"gw/{asset}/event", payload, key=f"{asset}-{number}/1", alert=True)


def main() -> None:
    """Until somebody kills it."""
    folder, port, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    agent, chance = Agent(folder, MqttSettings(port=port)), random.Random(number)
    while True:
        for _ in range(chance.randint(1, MAX_AT_ONCE)):
            agent.publisher.offer(alert(number, padding=PADDING))
            number += 1
        agent.step()
        if agent.outbox.flush():
            sys.stdout.write(f"{number - 1}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
