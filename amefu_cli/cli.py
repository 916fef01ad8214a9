"""The command line: the only place where an error, or a signal, becomes a message and an exit code."""

from __future__ import annotations

import gc
import io
import os
import sys

from amefu_cli.errors import AmefuError, Interrupted
from amefu_cli.interruption import unwind_on_signals

GARBAGE_AFTER = (5_000, 10, 100)  # objects made, instead of Python's 700; rounds until older and the oldest follow


def main() -> None:
    """Run one command. Exit codes: 0 done; 1 failed; 2 wrong usage; 3 some videos failed; 130, 143 interrupted."""
    for stream in ("stdout", "stderr"):  # one that is closed from the start is None
        if getattr(sys, stream) is None:
            setattr(sys, stream, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":  # it may not have ±
        sys.stdout.reconfigure(errors="replace")
    # Threads that spin while they wait make a shared machine ten times slower; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Pillow keeps the memory of a frame for the next one: 3% of `frames`; read when Pillow is loaded.
    os.environ.setdefault("PILLOW_BLOCKS_MAX", "4")
    # Torch makes half a million objects that stay, and the records of a large store are more: looking through them
    # again and again while they are made, and once more at the end, takes a fifth of the time of a command that has
    # little to do.
    gc.set_threshold(*GARBAGE_AFTER)
    try:
        unwind_on_signals()
        from amefu_cli.commands.app import app  # takes half a second, in which a signal is heard already

        app(prog_name="amefu")
    except (AmefuError, Interrupted) as error:
        _fail(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of stdout has gone: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(AmefuError.exit_code)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or 'no file is named'}")
        sys.exit(AmefuError.exit_code)
    finally:
        gc.freeze()


def _fail(message: str) -> None:
    from amefu_cli.commands.console import fail

    try:
        os.getcwd()
    except FileNotFoundError:
        message += "; the working folder was deleted: change to one that is there"
    fail(message)
