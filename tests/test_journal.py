"""The journal: one line a change, and a reader that may go."""

from __future__ import annotations

import os
from contextlib import suppress

from edge_agent.journal import Journal


def test_a_reader_that_has_gone_ends_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    journal = Journal(stream)
    for number in range(3):
        journal.error(f"trouble {number}")
    assert list(journal.problems) == ["trouble 0", "trouble 1", "trouble 2"]
    with suppress(BrokenPipeError):
        stream.close()
