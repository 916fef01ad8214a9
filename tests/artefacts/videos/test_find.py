from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from amefu_cli.artefacts.videos.copies import one_of_each
from amefu_cli.artefacts.videos.entries import choose_series, natural_key
from amefu_cli.artefacts.videos.find import Found, find_clips, find_named, image_files, is_unchanged
from amefu_cli.errors import UsageError, shown
from amefu_cli.flows.frames import source_identity

RARE = ("266", "avc", "avs", "dav", "dif", "h26l", "mk3d", "ty", "vc1", "viv", "vvc")


def lay(root: Path, *names: str | bytes) -> None:
    """Files of one byte; a name that ends in / is a folder."""
    for name in names:
        path = root / os.fsdecode(name)
        if os.fsdecode(name).endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")


def ids(found: Found) -> list[str]:
    return [clip.id for clip in found.clips]


def reasons(found: Found, root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): reason for path, reason in found.skipped}


def test_a_clip_knows_its_class_path_size_and_time(tmp_path: Path) -> None:
    lay(tmp_path, "jump/deep/a.mp4")
    (tmp_path / "jump/deep/a.mp4").write_bytes(b"12345")
    os.utime(tmp_path / "jump/deep/a.mp4", ns=(1, 1_700_000_000_123_456_789))
    (clip,) = find_clips(tmp_path, follow_links=False).clips
    assert (clip.id, clip.class_name, clip.kind) == ("jump/deep/a", "jump", "video")
    assert clip.path == tmp_path / "jump/deep/a.mp4"
    assert (clip.size, clip.mtime_ns) == (5, 1_700_000_000_123_456_789)


def test_where_a_clip_lies_in_the_folder_that_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, "jump/a.mp4", "jump/b/1.jpg", "jump/b/2.jpg")
    monkeypatch.chdir(tmp_path)
    found = [(clip.source, str(clip.path)) for clip in find_clips(Path(), follow_links=False).clips]
    assert found == [("jump/a.mp4", "jump/a.mp4"), ("jump/b", "jump/b")]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["b/2.avi", "b/10.MKV", "a/z.webm"], ["a/z", "b/10", "b/2"]),
        (["a/v.mp4", "b/v.mp4"], ["a/v", "b/v"]),  # one base name, two folders: two videos
        (["a/v.mp4", "a/v/1.mp4"], ["a/v.mp4", "a/v/1"]),  # no id is a folder on the way to another
        (["a/v.tar.mp4"], ["a/v.tar"]),
        # what PyAV reads besides: cameras' own, elementary streams, old and rare containers
        ([f"a/{name}.{name}" for name in RARE], [f"a/{name}" for name in RARE]),
        (["a/1/img_1.jpg", "a/1/img_2.PNG"], ["a/1"]),
        (["a/v.mp4", "a/thumbnail.jpg", "a/v.txt", "a/.v.mp4", "notes.json"], ["a/v"]),
        (["frames.zarr/videos/a/b.mp4", ".staging/a/b.mp4", "a/b.mp4"], ["a/b"]),
        (
            ['a/it\'s "q".mp4', "a/two\nlines.mp4", "踊り/歩く.mp4"],
            ['a/it\'s "q"', "a/two\nlines", "踊り/歩く"],
        ),
        ([b"a/caf\xe9.mp4"], ["a/caf\udce9"]),
        (["a/"], []),
    ],
)
def test_ids(tmp_path: Path, names: list[str | bytes], expected: list[str]) -> None:
    lay(tmp_path, *names)
    found = find_clips(tmp_path, follow_links=False)
    assert ids(found) == expected
    assert found.skipped == ()


TWICE = "the same recording as {}, by its name"
PICTURES = "lies in the folder of a clip's pictures"
SYSTEM = "a folder of the system, not of yours"
LEFT_OVER = "left over from a download that did not end"
KIND = "flow, depth, masks or the like, by its name: {}"


@pytest.mark.parametrize(
    ("names", "expected", "skipped"),
    [
        # a folder that holds pictures is one clip
        (["a/1/image_1.jpg", "a/1/image_2.jpg", "a/1/monodepth/image_1_disp.jpeg", "a/1/n_frames"], ["a/1"],
         {"a/1/monodepth": PICTURES, "a/1/n_frames": "a file without a suffix"}),
        (["a/1/x.jpg", "a/1/deep/y.jpg"], ["a/1"], {"a/1/deep": PICTURES}),
        (["a/1/img_1.jpg", "a/1/img_2.jpg", "a/1/depth.mp4", "a/1/preview.gif"], ["a/1"],
         {"a/1/depth.mp4": PICTURES, "a/1/preview.gif": PICTURES}),
        (["a/1/img_1.jpg", "a/1/img_2.jpg", "a/1/source.mp4"], ["a/1"], {"a/1/source.mp4": PICTURES}),
        (["a/s/v.mp4", "a/s/v.jpg", "a/s/w.mp4", "a/s/w.jpg"], ["a/s/v", "a/s/w"], {}),  # thumbnails
        (["a/s/v.mp4", "a/s/poster.jpg"], ["a/s/v"], {}),
        (["a/1.mp4", "a/1.jpg", "a/cover.jpg"], ["a/1"], {}),
        (["a/img_1.jpg", "a/1/img_1.jpg"], ["a/1"], {}),  # a class is no clip
        # system folders and what is left over from downloads
        (["a/1/@eaDir/img_1.jpg/THUMB.jpg", "a/1/img_1.jpg"], ["a/1"], {"a/1/@eaDir": SYSTEM}),
        (["#recycle/a/v.mp4", "$RECYCLE.BIN/S-1/v.mp4", "lost+found/v.mp4", "__MACOSX/a/v.mp4", "System Volume "
          "Information/x.mp4", "a/v.mp4"], ["a/v"],
         {"#recycle": SYSTEM, "$RECYCLE.BIN": SYSTEM, "lost+found": SYSTEM, "__MACOSX": SYSTEM,
          "System Volume Information": SYSTEM}),
        (["a/1/.ipynb_checkpoints/img_1-checkpoint.jpg", "a/1/img_1.jpg"], ["a/1"], {}),
        (["a/v.mp4.part", "a/v.mp4.ytdl", "a/w.mp4.part-Frag3.part", "a/w.temp.mp4", "a/x.crdownload", "a/y.mp4",
          "a/y.mp4.aria2", "a/v.mp4"], ["a/v"],
         dict.fromkeys(["a/v.mp4.part", "a/v.mp4.ytdl", "a/w.mp4.part-Frag3.part", "a/w.temp.mp4", "a/x.crdownload",
                        "a/y.mp4", "a/y.mp4.aria2"], LEFT_OVER)),
        # the same recording twice, by its name: the largest file, then the folder of frames
        (["a/v.f137.mp4", "a/v.mp4"], ["a/v"], {"a/v.f137.mp4": TWICE.format("v.mp4")}),
        (["a/v.f137.mp4", "a/w.mp4"], ["a/v.f137", "a/w"], {}),
        (["a/v.mp4", "a/v.avi", "a/w.mp4"], ["a/v", "a/w"], {"a/v.mp4": TWICE.format("v.avi")}),
        (["a/v.mp4.avi", "a/v.mp4", "a/v.avi"], ["a/v"],
         {"a/v.mp4": TWICE.format("v.avi"), "a/v.mp4.avi": TWICE.format("v.avi")}),
        (["a/1/img_1.jpg", "a/1/img_2.PNG", "a/1.mp4"], ["a/1"], {"a/1": TWICE.format("1.mp4")}),
        (["a/1_frames/1.jpg", "a/1.mp4"], ["a/1"], {"a/1_frames": TWICE.format("1.mp4")}),
        (["a/v.mp4", "a/v/1.mp4", "a/v/2.mp4"], ["a/v.mp4", "a/v/1", "a/v/2"], {}),  # clips of their own
        # flow, depth, masks by the names of folders and files
        (["a/1/img/1.jpg", "a/1/flow_x/1.jpg", "a/1/flow_y/1.jpg"], ["a/1/img"],
         {"a/1/flow_x": KIND.format("of img"), "a/1/flow_y": KIND.format("of img")}),
        (["a/s1_rgb.avi", "a/s1_depth.avi", "a/s1_masks/1.png", "a/s2.avi"], ["a/s1_rgb", "a/s2"],
         {"a/s1_depth.avi": KIND.format("of s1_rgb.avi"), "a/s1_masks": KIND.format("of s1_rgb.avi")}),
        (["a/1/depth/1.png", "a/2/depth/1.png"], ["a/1/depth", "a/2/depth"], {}),  # what somebody asked for
        (["a/1/flow_x/1.jpg", "a/1/flow_y/1.jpg", "a/2.mp4"], ["a/2"],
         dict.fromkeys(["a/1/flow_x", "a/1/flow_y"],
                       KIND.format("flow_x or flow_y, of which none can be told to be the clip"))),
        (["wear_mask/mask_1.mp4", "wear_mask/mask_2.mp4"], ["wear_mask/mask_1", "wear_mask/mask_2"], {}),
    ],
)  # fmt: skip
def test_which_of_what_lies_together_is_the_clip(
    tmp_path: Path, names: list[str], expected: list[str], skipped: dict[str, str]
) -> None:
    lay(tmp_path, *names)
    found = find_clips(tmp_path, follow_links=False)
    assert ids(found) == expected
    assert reasons(found, tmp_path) == skipped
    assert [clip.source for clip in found.clips] == [str(clip.path.relative_to(tmp_path)) for clip in found.clips]


def test_of_two_containers_the_larger_is_taken(tmp_path: Path) -> None:
    lay(tmp_path, "a/v.avi", "a/v.webm")
    (tmp_path / "a/v.webm").write_bytes(b"two")
    found = find_clips(tmp_path, follow_links=False)
    assert [clip.path.name for clip in found.clips] == ["v.webm"]


def test_one_series_of_pictures_is_the_clip_or_it_is_refused_by_name(tmp_path: Path) -> None:
    for number in range(1, 4):
        lay(tmp_path, *(f"a/1/{name}_{number:05d}.jpg" for name in ("flow_x", "flow_y", "img")))
        lay(tmp_path, *(f"a/2/{name}_{number:05d}.jpg" for name in ("left", "right")))
    found = find_clips(tmp_path, follow_links=False)
    one, two = found.clips
    assert [path.name for path in image_files(one.path)] == ["img_00001.jpg", "img_00002.jpg", "img_00003.jpg"]
    assert (one.size, one.fault) == (3, None)
    assert reasons(found, tmp_path) == dict.fromkeys(
        ["a/1/flow_x_*.jpg", "a/1/flow_y_*.jpg"], "another series of pictures than img_*.jpg"
    )
    assert two.fault == (
        "holds several series of pictures: left_*.jpg (3), right_*.jpg (3); which is the clip cannot be told: keep one"
    )
    before = one
    (tmp_path / "a/1/flow_x_00001.jpg").write_bytes(b"another")  # no picture of the clip
    assert is_unchanged(before)


def test_parts_above_the_classes_are_no_classes(tmp_path: Path) -> None:
    lay(tmp_path, "train/run/1.mp4", "train/run/2/img_1.jpg", "val/jump/1.mp4", "test/run/1.mp4", "test/swim/s/9.mp4",
        "lists/train.txt", "extra/x.mp4")  # fmt: skip
    found = find_clips(tmp_path, follow_links=False)
    assert [(clip.id, clip.class_name, clip.source) for clip in found.clips] == [
        ("jump/1", "jump", "val/jump/1.mp4"), ("run/2", "run", "train/run/2"), ("run/test/1", "run", "test/run/1.mp4"),
        ("run/train/1", "run", "train/run/1.mp4"), ("swim/s/9", "swim", "test/swim/s/9.mp4"),
    ]  # fmt: skip
    assert reasons(found, tmp_path)["extra"] == "lies beside test, which is above the classes: is not a class"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train/1.mp4", "test/2.mp4"], ["test/2", "train/1"]),  # classes of that name
        (["train/1/img_1.jpg", "test/2/img_1.jpg"], ["test/2", "train/1"]),
        (["train/deep/1.mp4", "bus/2.mp4"], ["bus/2", "train/deep/1"]),
        (["train/run/1.mp4", "train/jump/1.mp4"], ["jump/1", "run/1"]),  # one part alone
    ],
)
def test_what_is_called_as_a_part_may_be_a_class(tmp_path: Path, names: list[str], expected: list[str]) -> None:
    lay(tmp_path, *names)
    found = find_clips(tmp_path, follow_links=False)
    assert (ids(found), found.skipped) == (expected, ())


def test_kinds_of_pictures_above_the_classes_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, "rgb/a/1/1.jpg", "flow/a/1/1.jpg")
    with pytest.raises(UsageError, match=r"no classes but kinds of pictures: flow, rgb; give the folder of one kind"):
        find_clips(tmp_path, follow_links=False)


def test_of_the_same_bytes_the_oldest_of_each_class_is_taken(tmp_path: Path) -> None:
    lay(tmp_path, "a/new.mp4", "a/old.avi", "a/1/1.jpg", "a/2/1.jpg", "b/v.mp4", "b/empty.mp4", "b/empty2.mp4")
    for name in ("a/1/1.jpg", "a/2/1.jpg"):
        (tmp_path / name).write_bytes(b"picture")
    for name in ("b/empty.mp4", "b/empty2.mp4"):  # each says for itself what is wrong with it
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / "a/old.avi", ns=(1, 1))
    os.utime(tmp_path / "a/2/1.jpg", ns=(1, 1))
    found = one_of_each(find_clips(tmp_path, follow_links=False))
    assert ids(found) == ["a/2", "a/old", "b/empty", "b/empty2", "b/v"]
    assert reasons(found, tmp_path) == {"a/new.mp4": "the same bytes as a/old", "a/1": "the same bytes as a/2"}
    assert found.in_two_classes == (("a/old", "b/v"),)


def test_an_image_folder_is_one_clip_of_all_its_images(tmp_path: Path) -> None:
    lay(tmp_path, "run/7/img_2.jpg", "run/7/img_10.jpg", "run/7/note.txt")
    os.utime(tmp_path / "run/7/img_2.jpg", ns=(5, 9_000_000_000))
    os.utime(tmp_path / "run/7/img_10.jpg", ns=(5, 8_000_000_000))
    (clip,) = find_clips(tmp_path, follow_links=False).clips
    assert (clip.id, clip.kind, clip.path, clip.size, clip.mtime_ns) == (
        "run/7",
        "images",
        tmp_path / "run/7",
        2,
        9_000_000_000,
    )
    assert [path.name for path in image_files(clip.path)] == ["img_2.jpg", "img_10.jpg"]


def test_two_images_that_change_places_are_another_clip(tmp_path: Path) -> None:
    lay(tmp_path, "run/7/img_1.jpg", "run/7/img_2.jpg")
    for number in (1, 2):
        os.utime(tmp_path / f"run/7/img_{number}.jpg", ns=(5, number * 10**9))
    (before,) = find_clips(tmp_path, follow_links=False).clips
    assert is_unchanged(before)
    (tmp_path / "run/7/img_1.jpg").rename(tmp_path / "run/7/third.jpg")
    (tmp_path / "run/7/img_2.jpg").rename(tmp_path / "run/7/img_1.jpg")
    (tmp_path / "run/7/third.jpg").rename(tmp_path / "run/7/img_2.jpg")
    (after,) = find_clips(tmp_path, follow_links=False).clips
    assert (after.size, after.mtime_ns) == (before.size, before.mtime_ns)
    assert source_identity(after, checksum=False) != source_identity(before, checksum=False)
    assert not is_unchanged(before)
    assert is_unchanged(after)


def test_natural_order() -> None:
    names = ["b", "f10.jpg", "f2.jpg", "f02.jpg", "10", "2", "f2_11.jpg", "f2_9.jpg", "²"]
    assert sorted(names, key=natural_key) == [
        "2", "10", "b", "f02.jpg", "f2.jpg", "f2_9.jpg", "f2_11.jpg", "f10.jpg", "²",
    ]  # fmt: skip


def test_decimals_are_in_their_order_unless_they_count_on() -> None:
    def ordered(*names: str) -> list[str]:
        return list(choose_series(names).names)

    decimals = ["0.jpg", "0.125.jpg", "0.25.jpg", "0.5.jpg", "1.jpg", "1.375.jpg", "10.jpg"]
    assert ordered(*sorted(decimals)) == decimals
    assert ordered("1.10.jpg", "1.9.jpg", "1.1.jpg") == ["1.1.jpg", "1.9.jpg", "1.10.jpg"]
    assert ordered("t_1.000.jpg", "t_0.960.jpg") == ["t_0.960.jpg", "t_1.000.jpg"]


def numbered(*words: str, count: int = 3) -> list[str]:
    return [f"{word.replace('#', f'{number:03d}')}" for word in words for number in range(count)]


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (numbered("img_#.jpg", "flow_x_#.jpg", "flow_y_#.jpg"), "img_*.jpg"),
        (numbered("image_#.jpg", "image_#_disp.jpeg"), "image_*.jpg"),
        (numbered("frame#.png", "mask#.png", "depthmap#.png"), "frame*.png"),
        (numbered("#.jpg", "#_mask.png"), "*.jpg"),
        (numbered("clip_#.jpg", "clip_#_depth.jpg"), "clip_*.jpg"),
        ([*numbered("#.jpg"), "cover.jpg", "thumb_1.jpg"], "*.jpg"),
        (numbered("flow_x_#.jpg"), "flow_x_*.jpg"),  # nothing else is there
        ([f"f_{number:03d}_{number * 0.04:.2f}s.jpg" for number in range(30)], "f_*s.jpg"),  # number and time
        (["IMG_1.JPG", "img_2.jpg", "img_10.jpg"], "*"),
        (["rgb.png", "depth.png", "mask.png"], "rgb.png"),
        (numbered("cam1_#.jpg", "cam2_#.jpg"), None),
        (["cam1_1.jpg", "cam1_2.jpg", "cam2_98.jpg", "cam2_99.jpg"], None),  # no two of one number
        (numbered("left_#.jpg", "right_#.jpg"), None),
        (numbered("img_#.jpg", "image_#.jpg"), None),
        (numbered("flow_x_#.jpg", "flow_y_#.jpg"), None),
        (numbered("#.jpg", "#.png"), None),
        (["img_1.jpg", "img_01.jpg"], None),
        (["IMG_1.jpg", "img_1.jpg"], None),
        (["a.jpg", "b.jpg"], None),
        ([*numbered("img_#.jpg", count=2), *numbered("other_#.jpg", count=9)], None),  # few are named as frames are
    ],
)
def test_which_series_of_pictures_is_a_clip(names: list[str], taken: str | None) -> None:
    choice = choose_series(names)
    assert (choice.series.label if choice.names else None) == taken
    assert (choice.fault is None) == (taken is not None)
    assert choose_series(names[::-1]) == choice


def test_what_is_passed_over_has_a_reason(tmp_path: Path) -> None:
    lay(tmp_path, "top.mp4", "a/v.mp4", "a/x.mp4/in.mp4", "a/film.iso", "a/README", "b/1.jpg", "c.avi/1.jpg")
    os.mkfifo(tmp_path / "a/pipe.mp4")
    (tmp_path / "a/gone.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a/self.mp4").symlink_to("self.mp4")
    (tmp_path / "a/up").symlink_to(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        old = os.getcwd()
        os.chdir(tmp_path / "a")  # the name of a socket must be short
        try:
            listener.bind("talk.mp4")
        finally:
            os.chdir(old)
        found = find_clips(tmp_path, follow_links=True)
    assert ids(found) == ["a/v"]
    assert reasons(found, tmp_path) == {
        "top.mp4": "lies in no class folder; move it to CLASS/",
        "a/x.mp4": "a folder named as a video (.mp4); rename it if it holds a clip's images",
        "c.avi": "a folder named as a video (.avi); rename it if it holds a clip's images",
        "a/film.iso": "no video by its suffix '.iso'",
        "a/README": "a file without a suffix",
        "b": "images but no clips; give each clip a folder CLASS/CLIP/",
        "a/pipe.mp4": "not a regular file but a FIFO",
        "a/talk.mp4": "not a regular file but a socket",
        "a/gone.mp4": "a link to nothing",
        "a/self.mp4": "a link that leads to itself",
        "a/up": "a link that leads back to a folder above it",
    }


def test_a_clip_whose_name_no_store_can_take_is_passed_over(tmp_path: Path) -> None:
    long = os.fsdecode(b"\xe9" * 100)
    lay(tmp_path, f"a/{long}.mp4", f"b/{long}/v/1.jpg", "a/v.mp4")
    found = find_clips(tmp_path, follow_links=False)
    assert ids(found) == ["a/v"]
    reason = f"video id part {long[:40]!r}… needs {{}} bytes as a file name; the limit is 255: rename the clip"
    assert reasons(found, tmp_path) == {  # an archive has a suffix, a folder has none
        f"a/{long}.mp4": reason.format(304), f"b/{long}/v": reason.format(300),
    }  # fmt: skip


def test_links_are_followed_inside_the_folder_and_anywhere_on_request(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    lay(root, "a/v.mp4", "a/sub/w.mp4")
    lay(tmp_path, "elsewhere/e.mp4", "videos-too/t.mp4")  # the second shares the root's name as a prefix
    (root / "a/file.mp4").symlink_to("v.mp4")
    (root / "b").symlink_to("a/sub")
    (root / "a/out.mp4").symlink_to(tmp_path / "elsewhere/e.mp4")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "d").symlink_to(tmp_path / "videos-too")
    inside = find_clips(root, follow_links=False)
    assert ids(inside) == ["a/file", "a/sub/w", "a/v", "b/w"]
    leaves = "a link that leaves the videos folder; --follow-links follows it"
    assert reasons(inside, root) == {"a/out.mp4": leaves, "c": leaves, "d": leaves}
    anywhere = find_clips(root, follow_links=True)
    assert ids(anywhere) == ["a/file", "a/out", "a/sub/w", "a/v", "b/w", "c/e", "d/t"]
    assert anywhere.skipped == ()


def test_an_image_that_leads_outside_costs_its_clip(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    lay(root, "a/good/1.jpg", "a/good/.2.jpg", "a/bad/1.jpg")
    lay(tmp_path, "secret.jpg")
    (root / "a/bad/2.jpg").symlink_to(tmp_path / "secret.jpg")
    found = find_clips(root, follow_links=False)
    assert ids(found) == ["a/good"]
    assert [path.name for path in image_files(root / "a/good")] == ["1.jpg"]
    assert reasons(found, root) == {
        "a/bad/2.jpg": "a link that leaves the videos folder; --follow-links follows it",
        "a/bad": "some of its images are passed over, so it is not a clip",
    }
    assert ids(find_clips(root, follow_links=True)) == ["a/bad", "a/good"]


def test_folders_nested_without_end_are_cut_off(tmp_path: Path) -> None:
    lay(tmp_path, "a/" * 64 + "v.mp4", "b/" * 70)
    found = find_clips(tmp_path, follow_links=False)
    assert ids(found) == ["a/" * 64 + "v"]
    assert reasons(found, tmp_path) == {"b/" * 64 + "b": "nested deeper than 64 folders"}


def test_a_root_that_is_itself_a_link_is_followed(tmp_path: Path) -> None:
    lay(tmp_path, "real/a/v.mp4")
    (tmp_path / "real/a/again.mp4").symlink_to(tmp_path / "real/a/v.mp4")
    (tmp_path / "link").symlink_to("real")
    assert ids(find_clips(tmp_path / "link", follow_links=False)) == ["a/again", "a/v"]


def test_folders_linked_crosswise_do_not_multiply(tmp_path: Path) -> None:
    for here in range(8):
        lay(tmp_path, f"{here}/v.mp4")
        for there in range(8):
            (tmp_path / f"{here}/to{there}").symlink_to(tmp_path / str(there))
    found = find_clips(tmp_path, follow_links=False)
    assert len(found.clips) == 8 + 8 * 7
    assert {reason for _, reason in found.skipped} == {
        "a link that leads back to a folder above it",
        "a folder link inside a linked folder; --follow-links follows it",
    }


def test_an_unreadable_folder_costs_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, "a/v.mp4", "b/w.mp4")
    scandir = os.scandir

    def refuse(path: Path) -> object:  # as root, no mode bit would
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_clips(tmp_path, follow_links=False)
    assert ids(found) == ["b/w"]
    assert reasons(found, tmp_path) == {"a": "cannot be read: Permission denied"}


def test_a_missing_root_is_a_usage_error(tmp_path: Path) -> None:
    lay(tmp_path, "file")
    with pytest.raises(UsageError, match=r"nowhere` does not exist; give the folder that holds CLASS/CLIP.mp4"):
        find_clips(tmp_path / "nowhere", follow_links=False)
    with pytest.raises(UsageError, match="file` is not a folder"):
        find_clips(tmp_path / "file", follow_links=False)


def test_what_is_named_is_a_file_a_folder_of_clips_or_one_of_pictures(tmp_path: Path) -> None:
    lay(tmp_path, "one", "in/b.mp4", "in/deep/a.avi", "in/deep/er/1/img_1.jpg", "in/notes.txt", "in/x.zarr/y.mp4")
    lay(tmp_path, "pictures/img_1.png", "pictures/img_2.png", "pictures/below/c.mp4")
    names = ["one", "in", "pictures", "one"]
    found = find_named([tmp_path / name for name in names], follow_links=False)
    assert [(str(clip.path.relative_to(tmp_path)), clip.kind) for clip in found.clips] == [
        ("one", "video"), ("in/b.mp4", "video"), ("in/deep/a.avi", "video"), ("in/deep/er/1", "images"),
        ("pictures", "images"),
    ]  # fmt: skip
    assert reasons(found, tmp_path) == {"pictures/below": "lies in the folder of a clip's pictures"}
    assert all(map(is_unchanged, found.clips))


def test_what_is_named_and_is_no_clip_is_a_usage_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("nowhere", "cannot be read: No such file"), ("pipe", "is neither a file nor a folder")):
        with pytest.raises(UsageError, match=f"{name}` {message}"):
            find_named([tmp_path / name], follow_links=False)


def test_names_are_shown_without_control_characters() -> None:
    assert shown("a\nb\x1b[31m'踊\udcff") == "a\\nb\\x1b[31m'踊\\udcff"


def looks_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often finding the clips of a folder asks the file system, by what it asks."""
    asked: Counter[str] = Counter()

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self._entry = entry

        def __getattr__(self, name: str) -> object:
            asked[name] += name not in ("name", "path", "is_symlink")  # which it knows from the listing
            return getattr(self._entry, name)

    @contextmanager
    def scandir(path: str, scan: Callable[[str], Any] = os.scandir) -> Iterator[Iterator[Entry]]:
        asked["scandir"] += 1
        with scan(path) as entries:
            yield map(Entry, entries)

    def stat(path: str, *words: object, look: Callable[..., os.stat_result] = os.stat, **options: object) -> object:
        asked["os.stat"] += 1
        return look(path, *words, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scandir)
        patched.setattr(os, "stat", stat)
        find_clips(folder, follow_links=False)
    return +asked


def test_each_folder_is_listed_once_and_each_file_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for clips in (10, 30):
        lay(tmp_path / str(clips), *(f"{name}/{clip}.mp4" for name in range(10) for clip in range(clips)))
    few, many = looks_at(tmp_path / "10", monkeypatch), looks_at(tmp_path / "30", monkeypatch)
    assert few["scandir"] == many["scandir"] == 1 + 10
    assert many - few == {"stat": 10 * 30 - 10 * 10}
