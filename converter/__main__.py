"""The command line: `edge-converter import|feedback|build|families|export|benchmark|...`.

In: arguments. Out: an exit code: 0 done, 1 the answer is no, 2 usage, 74 input/output.
Never: works itself, imports TensorFlow.
"""

from __future__ import annotations

import argparse
import os
import sys

from converter.benchmark.command import add_benchmark
from converter.build_command import add_build
from converter.console import print_note
from converter.default_bundle import add_default_bundles
from converter.errors import ConverterError
from converter.export_command import add_export
from converter.families_command import add_families
from converter.feedback_command import add_feedback
from converter.import_command import add_import
from converter.keys_command import add_keygen


def main(arguments: list[str] | None = None) -> int:
    """Runs one command."""
    parser = argparse.ArgumentParser(
        prog="edge-converter", description="Recordings of a healthy machine to an int8 bundle."
    )
    commands = parser.add_subparsers(required=True)
    add_import(commands)
    add_feedback(commands)
    add_build(commands)
    add_benchmark(commands)
    add_export(commands)
    add_families(commands)
    add_keygen(commands)
    add_default_bundles(commands)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()  # here, where a reader that has left is no error
    except ConverterError as error:
        print_note(f"edge-converter: {error}")
        return error.exit_code
    except BrokenPipeError:  # `edge-converter ... --json | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print_note("edge-converter: stopped")
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
