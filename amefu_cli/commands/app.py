"""The subcommands of `amefu`, in the order of `amefu --help`."""

from __future__ import annotations

import typer

from amefu_cli.commands import measure, prepare, train, workspace
from amefu_cli.commands.options import name_of

app = typer.Typer(
    name="amefu",
    help="Few-shot video action recognition: learn new actions from one to five labelled clips each (AMeFu-Net).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's boxes swallow [defaults in brackets], and cut names and paths at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)
split = typer.Typer(name="split", help="What a split names, and what is there.", no_args_is_help=True)
split.command("check", short_help="Say what of a split is missing, misspelt or double.")(workspace.split_check)
for function in (
    workspace.init, prepare.frames, prepare.depth, train.pretrain, prepare.features, train.meta_train, measure.episodes,
    measure.evaluate, measure.predict, measure.compare, measure.ablate, train.import_, train.export, workspace.status,
    workspace.verify, workspace.report, workspace.demo,
):  # fmt: skip
    app.command(name_of(function), short_help=(function.__doc__ or "").partition("\n")[0])(function)
app.add_typer(split)
