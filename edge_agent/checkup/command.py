"""`edge-agent doctor`: looks at everything, says what it found, and packs it for whoever helps.

In: parsed options. Out: an exit code (0 nothing is wrong, 1 something is), a line a finding.
Never: begins to ask boards when what was asked for can't be written.
"""

from __future__ import annotations

from argparse import Namespace

from edge_agent.checkup.doctor import examine
from edge_agent.checkup.support import look_first, support_file
from edge_agent.commands import EXIT_NO, EXIT_OK, line, say, tell
from edge_agent.config import BoardSettings, read_config


def doctor(options: Namespace) -> int:
    """Of a configuration, or of one port."""
    if options.out:
        look_first(options.out)
    loaded = None if options.port else read_config(options.config)
    config = loaded.config if loaded else None
    boards = config.boards if config else {
        str(options.port): BoardSettings(port=options.port, baud=options.baud)
    }  # fmt: skip
    findings, facts = examine(boards, config, options.seconds, tell)
    wrong = sum(finding.level == "wrong" for finding in findings)
    for finding in findings:
        if options.json:
            say(**finding._asdict())
        else:
            line(finding.line)
    if options.out:
        support_file(options.out, loaded, findings, facts)
        tell(f"{options.out}: for whoever helps; no password is in it")
    if options.json:
        say(ok=not wrong, wrong=wrong, findings=len(findings))
    return EXIT_NO if wrong else EXIT_OK
