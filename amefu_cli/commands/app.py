"""The subcommands of `amefu`, each registered under its name."""

from __future__ import annotations

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
from amefu_cli.commands.split_check import split_app

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
