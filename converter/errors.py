"""Errors: what a model maker can put right, in one line, with the exit code that belongs to it.

In: what was seen, what was expected, what to do. Out: an exception for `__main__` to print.
Never: a traceback for a user's mistake.
"""

from __future__ import annotations

EXIT_NO = 1
EXIT_USAGE = 2
EXIT_IO = 74


class ConverterError(Exception):
    """The answer is no: the data or the model won't do."""

    exit_code = EXIT_NO


class UsageError(ConverterError):
    """The command can't be meant so: another option would help."""

    exit_code = EXIT_USAGE


class FileError(ConverterError):
    """A file can't be read or written."""

    exit_code = EXIT_IO
