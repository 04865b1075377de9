"""`TokenDropping`: a vision transformer that gets only the tokens of visible patches."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.augment import check_visible
from maskrobust.lm_modules.masking.functional import hide
from maskrobust.lm_modules.masking.table import UnsupportedNetworkError


class TokenDropping(nn.Module):
    """A vision transformer of timm's that takes `visible` beside the images and drops the tokens of hidden patches.

    Source: Jain et al., "Missingness Bias in Model Debugging", ICLR 2022, arXiv 2204.08945. A patch is embedded, gets
    the embedding of its position, and is removed before the first block unless all of its pixels are visible; class and
    register tokens stay. So no hidden pixel enters the network, whatever the hole: replacing it, by NaN too, changes no
    output by a bit. A patch that the border of the hole crosses goes as a whole, because what would stand in for its
    hidden pixels is a fill, whose outline the token would show; the network then sees up to a patch less beside the
    hole, and nothing where only slivers are visible.

    Images with equally many tokens go through the blocks together, so that there is no padding that could matter. A
    batch costs as many passes of the blocks as it has different numbers of tokens, and each image as much as it has
    tokens.

    Args:
        network: `VisionTransformer` or DeiT's `VisionTransformerDistilled`, whose head reads class tokens; kept as it
            is and shared, not copied.

    Raises:
        UnsupportedNetworkError: it is another one, or its tokens are not those of single patches, have no embedding of
            their position, or are pooled.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        _check(network)
        self.network: Any = network
        self.training = network.training

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Logits of images of which only `visible` may be seen.

        Args:
            images: (B, C, H, W) float of the network's size, as it expects them (normalised).
            visible: (B, 1, H, W) bool, True where a pixel may be seen; None for all, exactly the plain network.

        Returns:
            (B, num_classes); those of the plain network, bit for bit in eval mode, where the whole batch is visible.
            An image without a patch that is wholly visible has the logits of its class tokens alone.

        Raises:
            TypeError, InputError: `visible` does not fit `images`.
        """
        network = self.network
        if visible is None:
            plain: Tensor = network(images)
            return plain
        check_visible(images, visible)
        images, kept = hide(images, visible), self._kept(visible)
        counts = kept.sum(dim=1)
        rows = [(counts == count).nonzero().squeeze(1) for count in counts.unique()]
        tokens = torch.cat([self._class_tokens(images[each], kept[each]) for each in rows])
        logits: Tensor = network.forward_head(tokens[torch.cat(rows).argsort()])
        return logits

    def _kept(self, visible: Tensor) -> Tensor:
        """Which tokens are kept, (B, P + N) bool: P class and register tokens, then the patches row by row."""
        height, width = self.network.patch_embed.patch_size
        patches = visible[:, 0].unflatten(2, (-1, width)).unflatten(1, (-1, height)).all(dim=4).all(dim=2)
        return F.pad(patches.flatten(1), (self.network.num_prefix_tokens, 0), value=True)

    def _class_tokens(self, images: Tensor, kept: Tensor) -> Tensor:
        """Class and register tokens (B, P, C) behind the last norm, of images that keep equally many tokens."""

        def drop(_module: nn.Module, _inputs: Any, tokens: Tensor) -> Tensor:
            return tokens[kept].reshape(len(images), -1, tokens.shape[2])

        with self.network.pos_drop.register_forward_hook(drop):  # called once positions are embedded
            tokens: Tensor = self.network.forward_features(images)[:, : self.network.num_prefix_tokens]
        return tokens


def _check(network: Any) -> None:
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    found = None
    if type(network) not in (VisionTransformer, VisionTransformerDistilled):
        found = f"a {type(getattr(network, 'network', network)).__name__}"
    elif type(network.patch_embed) is not PatchEmbed or network.patch_embed.dynamic_img_pad:
        found = f"one with a {type(network.patch_embed).__name__} that looks beyond single patches or pads images"
    elif network.pos_embed is None:
        found = "one without embeddings of positions"
    elif network.global_pool != "token":
        found = f"one that pools its tokens by '{network.global_pool}'"
    if found:
        raise UnsupportedNetworkError(
            "token dropping takes timm's VisionTransformer with embeddings of single patches and of their positions, "
            f"whose head reads a class token, such as timm/deit_tiny_patch16_224, but this is {found}; ask it under "
            "another masking method."
        )
