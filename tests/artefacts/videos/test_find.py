from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from amefu_cli.artefacts.videos.find import Found, find_clips, image_files, is_unchanged, natural_key
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


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["b/2.avi", "b/10.MKV", "a/z.webm"], ["a/z", "b/10", "b/2"]),
        (["a/v.mp4", "b/v.mp4"], ["a/v", "b/v"]),  # one base name, two folders: two videos
        (["a/v.mp4", "a/v.avi", "a/w.mp4"], ["a/v.avi", "a/v.mp4", "a/w"]),  # twins keep their suffix
        (["a/v.mp4", "a/v/1.mp4"], ["a/v.mp4", "a/v/1"]),  # no id is a folder on the way to another
        (["a/v.mp4.avi", "a/v.mp4", "a/v.avi"], ["a/v.avi", "a/v.mp4", "a/v.mp4.avi"]),
        (["a/v.tar.mp4"], ["a/v.tar"]),
        # what PyAV reads besides: cameras' own, elementary streams, old and rare containers
        ([f"a/{name}.{name}" for name in RARE], [f"a/{name}" for name in RARE]),
        (["a/1/img_1.jpg", "a/1/img_2.PNG", "a/1.mp4"], ["a/1", "a/1.mp4"]),
        (["a/v.mp4", "a/thumbnail.jpg", "a/v.txt", "a/.v.mp4", "notes.json"], ["a/v"]),
        (["a/1/x.jpg", "a/1/deep/y.jpg"], ["a/1/deep"]),  # images above clips are no clip
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
