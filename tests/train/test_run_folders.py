"""A folder of a run in place of a checkpoint: every command that takes a network names what to give."""

import os

import pytest

from tests.train.data.sets.test_folder import write_tree
from tests.train.test_cli import sentence_of


@pytest.mark.parametrize("given", ["run", "run/version_1", "run/version_1/checkpoints"])
@pytest.mark.parametrize("command", ["evaluate", "explain", "export"])
def test_a_folder_of_a_run_is_refused_with_the_best_checkpoint_of_its_newest_version(command, given, tmp_path, capsys):
    for version, names in (("version_0", ("best", "last")), ("version_1", ("best", "epoch=3", "last"))):
        folder = tmp_path / "run" / version / "checkpoints"
        folder.mkdir(parents=True)
        for name in names:
            (folder / f"{name}.ckpt").touch()
        os.utime(folder, (0, int(version[-1])))
    root, _ = write_tree(tmp_path, ("val",))
    data = {
        "evaluate": ["--data=Folder", f"--data.root={root}", "--data.image_size=32"],
        "explain": [f"--images={root / 'val' / 'bird'}"],
        "export": [],
    }
    arguments = [command, f"--network={tmp_path / given}", f"--out={tmp_path / 'out'}", *data[command]]
    best = tmp_path / "run" / "version_1" / "checkpoints" / "best.ckpt"
    assert f"name a checkpoint in it, such as '{best}'" in " ".join(sentence_of(arguments, capsys).split())
