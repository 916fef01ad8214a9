"""Every error that amefu shows its user, each with the exit code that it ends in."""

from __future__ import annotations


class AmefuError(Exception):
    """Something failed while running (exit 1). The message names what, found, expected and the mend."""

    exit_code = 1


class UsageError(AmefuError):
    """Wrong usage or an unmet precondition, found before any work (exit 2)."""

    exit_code = 2


class RecipeMismatch(UsageError):
    """A store or checkpoint was made by another recipe or from other weights (exit 2)."""


class DamagedFile(AmefuError):
    """A file of ours does not hold what its header promises (exit 1)."""


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
