"""What is trained and selected sees base and validation classes only: poison in the novel ones changes nothing."""

from __future__ import annotations

import pytest
from synthetic_features import NOVEL, VALIDATION, amefu, make_workspace

from amefu_cli.errors import NotFinite


def test_poisoned_novel_features_give_the_same_checkpoint(feature_space, tmp_path):
    poisoned = make_workspace(tmp_path / "poisoned", poisoned=NOVEL)
    for workspace in (feature_space, poisoned):
        config = workspace / "amefu.toml"
        config.write_text(config.read_text().replace("epochs = 1", "epochs = 3"))  # so that there is an epoch to select
        amefu(workspace, "meta-train")
    checkpoints = [(workspace / "fusion.safetensors").read_bytes() for workspace in (feature_space, poisoned)]
    assert checkpoints[0] == checkpoints[1]
    with pytest.raises(NotFinite, match="of run/v_00 holds NaN or infinity"):
        amefu(poisoned, "evaluate")


def test_poison_in_a_validation_class_is_noticed(tmp_path):
    workspace = make_workspace(tmp_path / "poisoned", poisoned=VALIDATION[:1])
    with pytest.raises(NotFinite, match="of jump/v_00 holds NaN or infinity"):
        amefu(workspace, "meta-train")
