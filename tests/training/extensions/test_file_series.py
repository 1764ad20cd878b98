from __future__ import annotations

from pathlib import Path

import pytest

from distrain.training.extensions.file_series import file_series


@pytest.mark.parametrize(
    ("filename", "there", "expected"),
    [
        (
            "snapshot_iter_{.updater.iteration}",
            ["snapshot_iter_10", "snapshot_iter_9", "snapshot_iter_9_bak", "snapshot_iter_", "xsnapshot_iter_3", "log"],
            ["snapshot_iter_9", "snapshot_iter_10"],
        ),
        (
            "{.updater.epoch_detail:05.1f}.npz",
            ["002.5.npz", "010.0.npz", "1x.npz", "a.npz"],
            ["002.5.npz", "010.0.npz"],
        ),
        ("e{0.updater.epoch}_i{0.updater.iteration}", ["e2_i1", "e1_i9", "e2_i0", "e1"], ["e1_i9", "e2_i0", "e2_i1"]),
        ("{.updater.iteration}/model", ["3/model", "20/model", "4/other", "x/model"], ["3/model", "20/model"]),
        ("{.stop_trigger.unit}[{.updater.iteration!s}]", ["iteration[2]", "epoch[3]", "iteration2"], ["iteration[2]"]),
        ("best", ["best", "best1", "abest"], ["best"]),
        ("be*t", ["best"], []),
    ],
)
def test_finds_what_the_format_has_named(make_trainer, tmp_path, filename, there, expected):
    for name in there:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert file_series(filename, make_trainer(out=tmp_path)) == expected


def test_folders_are_no_files(make_trainer, tmp_path):
    Path(tmp_path / "s3").mkdir()
    assert file_series("s{.updater.iteration}", make_trainer(out=tmp_path)) == []
    assert file_series("s{.updater.iteration}", make_trainer(out=tmp_path / "not there")) == []
