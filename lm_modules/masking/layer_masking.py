"""`LayerMasking`: any supported CNN, with the mask carried through its layers."""

from typing import Any

from torch import Tensor, nn

from augment import check_visible
from lm_modules.masking.functional import hide
from lm_modules.masking.masked import Masked, MaskingOptions, MergeRule, VisibleMap
from lm_modules.masking.program import read_program

_PREFIX = "network."


class LayerMasking(nn.Module):
    """A CNN that takes `visible` beside the images and computes every layer on visible positions only.

    Source: Balasubramanian and Feizi, "Towards Improved Input Masking for Convolutional Neural Networks", ICCV 2023.
    Hidden pixels do not matter: whatever they hold, NaN included, no output changes by a bit, and their gradient is
    exactly zero. The parameters are the network's own, under its own `state_dict` keys.

    Args:
        network: any CNN whose operations all have a rule; kept as it is and shared, not copied.
        merge: visible positions after a residual sum, "intersection" (the paper) or "union" of the branches'.
        detach_padding: values filled in beside visible positions carry no gradient (the paper).

    Raises:
        UnsupportedNetworkError: naming the layer and operation without a rule, and how to add one.

    Example:
        >>> masked = LayerMasking(torchvision.models.resnet50())
        >>> logits = masked(images, visible)  # (B, 3, H, W), (B, 1, H, W) -> (B, 1000)
    """

    def __init__(self, network: nn.Module, *, merge: MergeRule = "intersection", detach_padding: bool = True) -> None:
        super().__init__()
        self.options = MaskingOptions(merge, detach_padding)
        self.programs = {training: read_program(network, training=training) for training in (False, True)}
        self.network = network
        self.training = network.training
        self.register_state_dict_post_hook(_without_prefix)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_with_prefix)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Any:
        """The network's output for images of which only `visible` may be seen.

        Args:
            images: (B, C, H, W) float, as the network expects them (normalised).
            visible: (B, 1, H, W) bool, True where a pixel may be seen; None for all, exactly the plain network.

        Returns:
            What the network returns, usually logits (B, num_classes). With everything visible in eval mode it is equal
            to the plain network's bit for bit; with nothing visible it is finite.

        Raises:
            TypeError, ValueError: `visible` does not fit `images`.
        """
        if visible is None:
            return self.network(images)
        check_visible(images, visible)
        visible_map = VisibleMap(visible, self.options)
        if not self.training and visible_map.everything:
            return self.network(images)
        # Zero instead of what the caller left there: a NaN would reach weight gradients through 0 x NaN.
        masked_images = Masked(hide(images, visible), visible_map)
        return self.programs[self.training].run(self.network, masked_images)


def _without_prefix(_module: nn.Module, state_dict: dict[str, Any], prefix: str, _local_metadata: Any) -> None:
    inner = prefix + _PREFIX
    keys = [key for key in state_dict if key.startswith(inner)]
    state_dict.update({prefix + key.removeprefix(inner): value for key, value in _taken_out(state_dict, keys)})


def _with_prefix(_module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    keys = [key for key in state_dict if key.startswith(prefix)]
    state_dict.update(
        {prefix + _PREFIX + key.removeprefix(prefix): value for key, value in _taken_out(state_dict, keys)}
    )


def _taken_out(state_dict: dict[str, Any], keys: list[str]) -> list[tuple[str, Any]]:
    """All of them at once: a network may have both 'x' and 'network.x', and one's new name is the other's old one."""
    return [(key, state_dict.pop(key)) for key in keys]
