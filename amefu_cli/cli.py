"""The command line: the subcommands, and the only place where an error becomes a message and an exit code."""

from __future__ import annotations

import os
import sys

import typer

from amefu_cli.commands import (
    ablate,
    compare,
    demo,
    depth,
    episodes,
    evaluate,
    export,
    features,
    frames,
    import_,
    init,
    meta_train,
    pretrain,
    status,
    verify,
)
from amefu_cli.commands.console import fail
from amefu_cli.commands.split_check import split_app
from amefu_cli.errors import AmefuError, Interrupted
from amefu_cli.interruption import unwind_on_signals

app = typer.Typer(
    name="amefu",
    help="Few-shot video action recognition: learn new actions from one to five labelled clips each (AMeFu-Net).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's boxes swallow [defaults in brackets], and cut names and paths at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = {
    "init": init.init,
    "frames": frames.frames,
    "depth": depth.depth,
    "pretrain": pretrain.pretrain,
    "features": features.features,
    "meta-train": meta_train.meta_train,
    "episodes": episodes.episodes,
    "evaluate": evaluate.evaluate,
    "compare": compare.compare,
    "ablate": ablate.ablate,
    "import": import_.import_,
    "export": export.export,
    "status": status.status,
    "verify": verify.verify,
    "demo": demo.demo,
}
for name, function in COMMANDS.items():
    app.command(name, short_help=(function.__doc__ or "").partition("\n")[0])(function)
app.add_typer(split_app)


def main() -> None:
    """Run one command. Exit codes: 0 done; 1 failed; 2 wrong usage; 3 some videos failed; 130, 143 interrupted."""
    unwind_on_signals()
    for stream in ("stdout", "stderr"):  # one that is closed from the start is None
        if getattr(sys, stream) is None:
            setattr(sys, stream, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", closefd=False))
    # Threads that spin while they wait make a shared machine ten times slower; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Pillow keeps the memory of a frame for the next one: 3% of `frames`; read when Pillow is loaded.
    os.environ.setdefault("PILLOW_BLOCKS_MAX", "4")
    try:
        app(prog_name="amefu")
    except (AmefuError, Interrupted) as error:
        fail(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of stdout has gone: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(AmefuError.exit_code)
    except OSError as error:
        fail(f"{error.strerror or error}: {error.filename or 'no file is named'}")
        sys.exit(AmefuError.exit_code)
