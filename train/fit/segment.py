"""`maskrobust segment`: the command line of `fit` around `MaskRobustSegmenter`, on images with classes of pixels."""

from collections.abc import Sequence

from pytorch_lightning.cli import LightningArgumentParser

from maskrobust.lm_modules.callbacks import Segmentations
from maskrobust.lm_modules.training.segmenter import MaskRobustSegmenter
from maskrobust.train.fit import command


class SegmentCLI(command.FitCLI):
    """`FitCLI` whose model says the class of each pixel: the best checkpoint has the highest IoU."""

    command = "segment"
    linked = ("num_classes", "mean", "std", "ignore_index")
    best = ("val/iou", "max")
    of_images = ()
    pictures = Segmentations

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add those of `fit`, and take the label of pixels without a class from the data, 255 where they say none."""
        super().add_arguments_to_parser(parser)
        ignored = "model.ignore_index"
        parser.link_arguments("data", ignored, lambda data: getattr(data, "ignore_index", 255), apply_on="instantiate")


def main(arguments: Sequence[str]) -> None:
    """Run `segment` with command-line arguments, the command first; see `command.main` for what it raises."""
    command.main(["fit", *arguments[1:]], SegmentCLI, MaskRobustSegmenter)
