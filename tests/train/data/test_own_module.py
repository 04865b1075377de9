"""A data module of the user's own, in a file of his own: commands take it by its class path, and its options."""

import pytest
import yaml

from maskrobust.train.cli import main
from maskrobust.train.evaluate.config import parse_config
from tests.train.data.sets.test_folder import write_tree
from tests.train.runs import rows
from tests.train.tiny import TINY_NETWORK, TWO_STEPS

OWN_MODULE = """
from pathlib import Path

import torch

from maskrobust.train.data import FileDataModule, ImageFile, InMemoryDataModule, Samples, id_of


class Files(FileDataModule):
    class_names, num_classes = ("bird", "cat"), 2

    def __init__(self, root: str, image_size: int = 32) -> None:
        super().__init__(image_size=image_size, batch_size=4, num_workers=0)
        self.root = Path(root)

    def files(self, split):
        paths = sorted(self.root.glob(f"{split}/*/*.png"))
        inside = [path.relative_to(self.root) for path in paths]
        return [ImageFile(id_of(each), self.root / each, None, each.parts[1] == "cat") for each in inside]


class Squares(InMemoryDataModule):
    class_names, num_classes, mean, std = ("small", "large"), 2, (0.5,) * 3, (0.5,) * 3

    def __init__(self, side: int = 8) -> None:
        super().__init__(batch_size=4, num_workers=0, seed=0)
        self.side = side

    def make_samples(self, split):
        ids = torch.arange(8) + 100 * ("train", "val", "test").index(split)
        labels = ids % 2
        object_mask = torch.zeros(8, 1, 32, 32, dtype=torch.bool)
        object_mask[:, :, : self.side, : self.side] = True
        object_mask[labels == 1, :, : 2 * self.side, : 2 * self.side] = True
        return Samples(ids, 255 * object_mask.to(torch.uint8).expand(-1, 3, -1, -1), object_mask, labels)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that Python imports from, with own_data.py in it."""
    (tmp_path / "own_data.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_module_of_image_files_is_trained_on_by_its_class_path(folder):
    root, _ = write_tree(folder)
    runs = f"--trainer.default_root_dir={folder / 'runs'}"
    main(["fit", "--data=own_data.Files", f"--data.root={root}", runs, *TINY_NETWORK, *TWO_STEPS])
    assert any(row["val/accuracy"] for row in rows(folder / "runs"))


def test_a_module_of_samples_in_memory_is_named_in_yaml_with_its_options(folder):
    content = {"data": {"class_path": "own_data.Squares", "init_args": {"side": 6}}}
    (folder / "own.yaml").write_text(yaml.safe_dump(content))
    main(["masks", f"--config={folder / 'own.yaml'}", "--images=2", "--families=[patches]", f"--out={folder / 'out'}"])
    assert (folder / "out" / "masks.html").is_file()


def test_an_option_of_an_own_module_is_parsed_with_its_type(folder):
    data = parse_config(["--network=a.ckpt", "--out=out", "--data=own_data.Squares", "--data.side=5"]).data
    assert type(data).__name__ == "Squares" and data.samples("val").object_mask.sum() == 4 * 25 + 4 * 100
