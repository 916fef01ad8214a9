"""Every error that amefu shows its user, each with the exit code that it ends in."""

from __future__ import annotations

import importlib
from typing import Any


class AmefuError(Exception):
    """Something failed while running (exit 1). The message names what, found, expected and the fix."""

    exit_code = 1


class UsageError(AmefuError):
    """Wrong usage or an unmet precondition, found before any work (exit 2)."""

    exit_code = 2


class SettingsMismatch(UsageError):
    """A store or checkpoint was made with other settings or from other weights (exit 2)."""


class DamagedFile(AmefuError):
    """A file of amefu does not hold what its header promises (exit 1)."""


class NotFinite(AmefuError):
    """A loss, weight or feature is NaN or infinite (exit 1)."""


class Interrupted(BaseException):
    """SIGINT (130) or SIGTERM (143): the same command goes on where it stopped.

    Not an Exception, so that no library that shrugs off exceptions, while it is imported say, shrugs it off.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__("interrupted; the same command goes on where it stopped")
        self.exit_code = 128 + signal_number


class VideoError(AmefuError):
    """One video cannot be used. The class name is what `failures.jsonl` records; the run goes on (exit 3)."""

    exit_code = 3


def shown(name: object) -> str:
    r"""A path or name fit for a message or a terminal: newlines, control and non-UTF-8 characters as escapes.

    >>> shown("a\nb")
    'a\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(name))


def import_extra(module: str, *, extra: str, needed_by: str) -> Any:
    """The module, or a UsageError with the line that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{needed_by} needs {module}, which is not installed: `pip install 'amefu[{extra}]'`"
        ) from error
