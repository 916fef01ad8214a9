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
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("frames")(frames.frames)
app.command("depth")(depth.depth)
app.command("pretrain")(pretrain.pretrain)
app.command("features")(features.features)
app.command("meta-train")(meta_train.meta_train)
app.command("episodes")(episodes.episodes)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("ablate")(ablate.ablate)
app.command("import")(import_.import_)
app.command("export")(export.export)
app.add_typer(split_app)
app.command("status")(status.status)
app.command("verify")(verify.verify)
app.command("demo")(demo.demo)
