"""The subcommands of `amefu`, each registered under its name."""

from __future__ import annotations

import typer

from amefu_cli.commands import measure, prepare, train, workspace

app = typer.Typer(
    name="amefu",
    help="Few-shot video action recognition: learn new actions from one to five labelled clips each (AMeFu-Net).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's boxes swallow [defaults in brackets], and cut names and paths at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = {
    "init": workspace.init,
    "frames": prepare.frames,
    "depth": prepare.depth,
    "pretrain": train.pretrain,
    "features": prepare.features,
    "meta-train": train.meta_train,
    "episodes": measure.episodes,
    "evaluate": measure.evaluate,
    "compare": measure.compare,
    "ablate": measure.ablate,
    "import": train.import_,
    "export": train.export,
    "status": workspace.status,
    "verify": workspace.verify,
    "demo": workspace.demo,
}
split = typer.Typer(name="split", help="What a split names, and what is there.", no_args_is_help=True)
split.command("check", short_help="Say what of a split is missing, misspelt or double.")(workspace.split_check)
for name, function in COMMANDS.items():
    app.command(name, short_help=(function.__doc__ or "").partition("\n")[0])(function)
app.add_typer(split)
