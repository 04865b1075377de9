"""`maskrobust predict`: the likeliest classes of image files, whole or with holes, as a CSV file, or class rasters."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from maskrobust.errors import check_at_least
from maskrobust.lm_modules.methods import MaskingMethod, check_methods
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import Precision
from maskrobust.train.command_line import PARSER_OPTIONS, VISIBLE_HELP, Parser, as_list
from maskrobust.train.data_options import GivenVisible
from maskrobust.train.running.processes import find_device
from maskrobust.train.running.progress import CountingDisplay
from maskrobust.train.storage.files import check_folder, printable, write_text


@dataclass(frozen=True)
class PredictConfig:
    """What to predict.

    Attributes:
        network: name of the network, as `load_network` takes it.
        images: image files, and folders of them, which are searched at any depth.
        out: CSV file to write, with a row for each image; an existing file is replaced. Of a network that classifies
            pixels a folder, which gets a raster of classes for each image, and classes.csv.
        visible: where `visible` comes from; see `train.predict.answers.predict`.
        methods: masking methods, whose answers are written beside each other. By default the one of the training, or
            layer masking if the network was trained without holes.
        top: number of the likeliest classes that are written.
        features: NPZ file to write, with the features ahead of the last linear layer (N, D) for each method, and the
            names of the files.
        preprocess: preprocessing in place of that of the weights, any of size, crop, interpolation, mean, std, as in
            {size: 224}.
        batch_size: images in a batch.
        num_workers: processes that read images.
        device: device to compute on, such as cpu, cuda or cuda:1. By default a GPU for each process, or the CPU if
            there is none.
        precision: "32" for float32, or "bf16" for bfloat16 (autocast).
    """

    network: str
    images: list[Path]
    out: Path
    visible: GivenVisible | None = None
    methods: tuple[MaskingMethod, ...] | None = None
    top: int = 5
    features: Path | None = None
    preprocess: dict[str, Any] | None = None
    batch_size: int = 32
    num_workers: int = 2
    device: str | None = None
    precision: Precision = "32"


def parse_config(arguments: Sequence[str]) -> PredictConfig:
    """Parse and check the arguments of `maskrobust predict`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: an argument leaves its domain.
    """
    parser = Parser(prog="maskrobust predict", description=__doc__, **PARSER_OPTIONS)
    parser.add_argument("--network", type=str, required=True, help="the network, named as for maskrobust evaluate")
    parser.add_argument(
        "--images", type=list[Path] | Path, required=True, help="a folder of images, an image, or several: '[a, b]'"
    )
    parser.add_argument("--data.visible", type=GivenVisible | None, help=VISIBLE_HELP)
    parser.add_class_arguments(PredictConfig, skip={"network", "images", "visible"})
    given = vars(parser.instantiate(parser.parse_args(list(arguments))))
    given["images"], given["visible"] = as_list(given["images"]), given.pop("data").visible
    config = PredictConfig(**given)
    for name, least in (("top", 1), ("batch_size", 1), ("num_workers", 0)):
        check_at_least(name, getattr(config, name), least)
    Preprocessing().with_changes(config.preprocess or {})
    if config.methods is not None:
        check_methods(config.methods, "methods")
    return config


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust predict` with command-line arguments, the command first."""
    config = parse_config(arguments[1:])  # before the rest is imported, which takes seconds
    from maskrobust.lm_modules.loading import segmenter_of
    from maskrobust.train.networks import load_for
    from maskrobust.train.predict.answers import predict
    from maskrobust.train.predict.pictures import list_pictures
    from maskrobust.train.predict.table import Row, predictions_csv, summary, write_features
    from maskrobust.train.running.processes import first_of_each_machine_first, gathered, is_first, joined

    if segmenter_of(config.network):
        from maskrobust.train.predict.rasters import predict_rasters

        with joined():
            predict_rasters(config, Console(quiet=not is_first()))
        return
    for path in filter(None, (config.out, config.features)):
        check_folder(path.parent)
    places = {file.path: place for place, file in enumerate(list_pictures(config.images))}
    with joined():
        console = Console(quiet=not is_first())
        with first_of_each_machine_first():
            network = load_for(config.network, None, config.precision, preprocess=config.preprocess, may_crop=True)
        found = predict(
            network.to(find_device(config.device)),
            config.images,
            config.visible,
            methods=config.methods,
            features=config.features is not None,
            batch_size=config.batch_size,
            num_workers=config.num_workers,
        )
        with CountingDisplay(console) as progress:
            own = [Row.of(each, config.top) for each in progress.track(found, total=len(places))]
        rows = sorted(chain(*gathered(own)), key=lambda row: places[row.file])
        if not is_first():
            return
        write_text(config.out, predictions_csv(rows))
        if config.features is not None:
            write_features(config.features, rows)
    written = ", ".join(str(path) for path in (config.out, config.features) if path)
    told = [*summary(rows), f"written:   {written}"]
    console.print(*map(printable, told), sep="\n", markup=False, highlight=False, soft_wrap=True)
