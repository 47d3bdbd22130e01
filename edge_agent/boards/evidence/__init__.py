"""Evidence: the wire around an alarm, and what an operator says about it, for the next model.

In: chunks of every board's wire, alarms, verdicts. Out: for each case two files in a bounded
folder, `ID.rec` (a recording) and `ID.json` (a `Case`). Never: lets the service wait for the disk,
raises for a disk that is full or gone (`problem` says so), leaves half a file under a whole name.

Begin at `keeping.py`. `tail.py` is what is in memory, `case.py` what is in the JSON, `shelf.py`
the folder, `writer.py` the thread that alone touches it.
"""

from __future__ import annotations

from edge_agent.boards.evidence.case import Case
from edge_agent.boards.evidence.keeping import Evidence
from edge_agent.boards.evidence.tail import Tail

__all__ = ["Case", "Evidence", "Tail"]
