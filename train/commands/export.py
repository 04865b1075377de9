"""`maskrobust export`: a network under layer masking as one ONNX file."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from maskrobust.errors import InputError
from maskrobust.train.command_line import PARSER_OPTIONS, Parser
from maskrobust.train.storage.files import atomic_path, check_folder, printable


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust export` with command-line arguments, the command first.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: the network cannot be loaded or exported, or a file is not what it should be.
    """
    parser = Parser(prog="maskrobust export", description=__doc__, **PARSER_OPTIONS)
    parser.add_argument("--network", type=str, required=True, help="the network, named as for maskrobust evaluate")
    parser.add_argument("--onnx", type=Path, required=True, help="ONNX file to write, with inputs images and visible")
    parser.add_argument(
        "--method", type=str | None, help="a layer masking, such as layer_masking_mirror; by default as trained"
    )
    parser.add_argument(
        "--size", type=int | tuple[int, int] | None, help="side of the images in pixels, if the network does not say it"
    )
    given = parser.parse_args(list(arguments[1:]))
    if Path(given.onnx).suffix != ".onnx":
        raise InputError(f"--onnx must name a file that ends in .onnx, got '{given.onnx}'; rename it.")
    check_folder(Path(given.onnx).parent)
    size = list(given.size) if isinstance(given.size, tuple) else given.size
    print(printable(export_onnx(given.network, Path(given.onnx), given.method, size)))


def export_onnx(name: str, path: Path, method: str | None = None, size: int | list[int] | None = None) -> str:
    """Write a network under layer masking as one ONNX file, after ONNX Runtime has computed what the network does.

    Args:
        name: name of the network; see `load_network`.
        path: path of the file; an existing file is replaced.
        method: a layer masking, such as "layer_masking_mirror"; by default the one that the network was trained with.
        size: height and width of the pictures, or one number for both; by default the network's own. Where the network
            allows it, the file takes others, too.

    Returns:
        A sentence about the file, with its inputs and how it was checked, and a line of Python that runs it. Its output
        is called `logits`. Its metadata hold, as JSON: the method, the classes, mean and standard deviation (which the
        file applies), and size and interpolation, with which a picture is brought to the size of the inputs, and crop,
        of a whole photograph.

    Raises:
        MissingFileError, InputError: see `load_network` and `onnx_model`; or the method is none of layer masking, or no
            size is known.
    """
    from maskrobust.lm_modules.loading import load_network
    from maskrobust.lm_modules.methods import LAYER_MASKINGS
    from maskrobust.lm_modules.networks.onnx_model import PixelNetwork, onnx_model

    network = load_network(name)
    method = network.layer_masking if method is None else method
    if method not in LAYER_MASKINGS.values():
        raise InputError(f"method must be one of {', '.join(LAYER_MASKINGS.values())}, got '{method}'; name one.")
    shown = network.preprocessing if size is None else network.preprocessing.with_changes({"size": size})
    if shown.size is None:
        raise InputError(f"an ONNX file needs the size of its pictures, which '{name}' does not say; give --size 224.")
    about = {"method": method, "classes": network.class_names, **asdict(shown)}
    metadata = {name: json.dumps(value) for name, value in about.items()}
    model = onnx_model(PixelNetwork(network, method), shown.size, output="logits", metadata=metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model)
    sides = ", ".join(map(str, _sides(model)))
    return (
        f"exported: {path}, {method} with images (B, 3, {sides}) float32 in [0, 1] and visible (B, 1, {sides}) bool; "
        "checked in ONNX Runtime\n"
        f'next: onnxruntime.InferenceSession({str(path)!r}).run(["logits"], {{"images": images, "visible": visible}})'
    )


def _sides(model: bytes) -> tuple[int | str, int | str]:
    """Height and width of a file's images, of which those that are free have letters."""
    import onnx

    _, _, height, width = onnx.load_from_string(model).graph.input[0].type.tensor_type.shape.dim
    return height.dim_value or "H", width.dim_value or "W"
