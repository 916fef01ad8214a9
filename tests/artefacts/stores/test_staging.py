from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from amefu_cli.artefacts.stores.header import STAGING
from amefu_cli.artefacts.stores.staging import Staging, sweep


def _stage(store: Path, connection: Connection) -> None:
    folder = Staging(store).fresh()
    folder.mkdir()
    (folder / "half").write_bytes(b"x")
    connection.send(folder)
    connection.recv()  # until it is killed


def _other_process(store: Path) -> tuple[multiprocessing.process.BaseProcess, Path]:
    """A live process that has staged a folder, and that folder."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_stage, args=(store, theirs), daemon=True)
    process.start()
    return process, ours.recv()


def test_what_a_live_process_stages_is_left_alone_and_what_a_dead_one_left_is_swept(tmp_path: Path) -> None:
    process, folder = _other_process(tmp_path)
    assert sweep(tmp_path) == 0
    assert (folder / "half").exists()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert sweep(tmp_path) == 1
    assert not (tmp_path / STAGING).exists()


def test_a_process_leaves_nothing_when_it_closes(tmp_path: Path) -> None:
    staging = Staging(tmp_path)
    first, second = staging.fresh(), staging.fresh()
    assert first != second
    assert first.parent == second.parent
    first.mkdir()
    assert sweep(tmp_path) == 0
    staging.close()
    staging.close()
    assert not first.exists()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_staging_area_is_made_again_after_closing(tmp_path: Path) -> None:
    staging = Staging(tmp_path)
    old = staging.fresh().parent
    staging.close()
    assert staging.fresh().parent != old
    staging.close()


def test_a_folder_without_a_lock_belongs_to_nobody(tmp_path: Path) -> None:
    (tmp_path / STAGING / "orphan").mkdir(parents=True)
    assert sweep(tmp_path) == 1
    assert sweep(tmp_path) == 0
    assert sweep(tmp_path / "absent") == 0


def test_claiming_and_sweeping_at_once(tmp_path: Path) -> None:
    """Every claim is undisturbed, however often the empty staging area is removed under it."""
    faults: list[BaseException] = []

    def claim() -> None:
        try:
            for _ in range(150):
                staging = Staging(tmp_path)
                folder = staging.fresh()
                folder.mkdir()
                (folder / "half").write_bytes(b"x")
                sweep(tmp_path)
                assert (folder / "half").read_bytes() == b"x"
                staging.close()
                sweep(tmp_path)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert list(tmp_path.iterdir()) == []
