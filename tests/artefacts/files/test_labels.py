"""Labels as a table and as subtitles."""

from __future__ import annotations

from amefu_cli.artefacts.files.labels import Label, Labelled, as_csv, as_vtt

JUMP, RUN = Label("jump", 0.75), Label("run", 0.25)


def test_the_table_has_a_line_for_every_clip_and_for_what_failed() -> None:
    rows = [Labelled("a,b.mp4", "jump", [JUMP, RUN]), Labelled("caf\udce9.mp4", None, [RUN], 1.5, 3)]
    assert as_csv(rows, {"bad.mp4": "two\nlines"}, top=2) == (
        b"clip,begin,end,label,class_1,probability_1,class_2,probability_2,error\n"
        b'"a,b.mp4",,,jump,jump,0.750000,run,0.250000,\n'
        b"caf\xe9.mp4,1.500,3.000,,run,0.250000,,,\n"
        b'bad.mp4,,,,,,,,"two\nlines"\n'
    )


def test_subtitles_show_each_label_while_it_lasts() -> None:
    stretches = [
        Labelled("a.mp4", "jump", [JUMP], 0, 59.9996),
        Labelled("a.mp4", "<i>run & fall</i>\n", [RUN], 59.9996, 3723.5),
        Labelled("a.mp4", None, [JUMP], 3723.5, 360_000.25),
    ]
    assert as_vtt(stretches).decode() == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:01:00.000\njump 75%\n\n"
        "00:01:00.000 --> 01:02:03.500\n&lt;i&gt;run &amp; fall&lt;/i&gt;\\n 25%\n\n"
        "01:02:03.500 --> 100:00:00.250\nnone of these 75%\n"
    )
