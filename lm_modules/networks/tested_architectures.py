"""Which networks layer masking is tested on, and which it refuses and why; `maskrobust arches` prints both.

The tests hold that the lists cover all of torchvision's classifiers, and every family (module) of timm that has models.
"""

from typing import NamedTuple


class Refusal(NamedTuple):
    """Networks that layer masking does not take.

    Attributes:
        architecture: the smallest of them, by the name that `build_network` takes.
        reason: what they compute that a mask of positions cannot follow.
    """

    architecture: str
    reason: str


TORCHVISION: tuple[str, ...] = (
    "alexnet",
    "convnext_tiny", "convnext_small", "convnext_base", "convnext_large",
    "densenet121", "densenet161", "densenet169", "densenet201",
    "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4", "efficientnet_b5",
    "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l",
    "googlenet",
    "inception_v3",
    "mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3",
    "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
    "regnet_x_400mf", "regnet_x_800mf", "regnet_x_1_6gf", "regnet_x_3_2gf", "regnet_x_8gf", "regnet_x_16gf",
    "regnet_x_32gf", "regnet_y_400mf", "regnet_y_800mf", "regnet_y_1_6gf", "regnet_y_3_2gf", "regnet_y_8gf",
    "regnet_y_16gf", "regnet_y_32gf", "regnet_y_128gf",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d",
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0",
    "squeezenet1_0", "squeezenet1_1",
    "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
    "wide_resnet50_2", "wide_resnet101_2",
)  # fmt: skip
"""All convolutional classifiers of torchvision."""

TIMM: dict[str, tuple[str, ...]] = {
    "byobnet": ("test_byobnet", "repvgg_a0", "gernet_s"),
    "convmixer": ("convmixer_768_32",),
    "convnext": ("test_convnext", "convnextv2_atto"),
    "cspnet": ("cs3darknet_focus_s", "cspresnet50"),
    "cspnext": ("cspnext_tiny",),
    "densenet": ("densenet121",),
    "dla": ("dla46x_c",),
    "dpn": ("dpn48b",),
    "efficientnet": (
        "test_efficientnet", "tf_efficientnet_b0", "efficientnet_lite0", "efficientnet_blur_b0", "mobilenetv2_050",
        "mnasnet_small", "tinynet_e", "mixnet_s", "tf_efficientnet_cc_b0_4e",
    ),
    "fasternet": ("fasternet_t0",),
    "fastvit": ("fastvit_t8",),
    "focalnet": ("focalnet_tiny_srf",),
    "ghostnet": ("ghostnet_050", "ghostnetv2_100"),
    "hardcorenas": ("hardcorenas_b",),
    "hgnet": ("hgnetv2_b0",),
    "hrnet": ("hrnet_w18_small",),
    "inception_next": ("inception_next_atto",),
    "inception_resnet_v2": ("inception_resnet_v2",),
    "inception_v3": ("inception_v3",),
    "inception_v4": ("inception_v4",),
    "lcnetv2": ("lcnetv2_small",),
    "lowformer": ("lowformer_e1",),
    "mambaout": ("test_mambaout",),
    "metaformer": ("poolformer_s12", "poolformerv2_s12", "convformer_s18"),
    "mobilenetv3": (
        "mobilenetv3_small_050", "tf_mobilenetv3_small_minimal_100", "lcnet_050", "mobilenetv4_conv_small_035",
    ),
    "nasnet": ("nasnetalarge",),
    "nfnet": ("test_nfnet", "eca_nfnet_l0", "dm_nfnet_f0"),
    "pnasnet": ("pnasnet5large",),
    "rdnet": ("rdnet_tiny",),
    "regnet": ("regnetx_002", "regnety_002", "regnetz_005"),
    "repghost": ("repghostnet_050",),
    "repvit": ("repvit_m1",),
    "res2net": ("res2net50_14w_8s",),
    "resnest": ("resnest14d",),
    "resnet": (
        "test_resnet", "resnet10t", "resnetaa50", "resnetblur18", "seresnet50", "ecaresnet26t",
    ),
    "resnetv2": ("resnetv2_18", "resnetv2_50x1_bit"),
    "rexnet": ("rexnet_100",),
    "selecsls": ("selecsls42",),
    "senet": ("legacy_seresnet18",),
    "sknet": ("skresnet18",),
    "starnet": ("starnet_s050",),
    "tresnet": ("tresnet_m",),
    "vgg": ("vgg11",),
    "vovnet": ("vovnet39a", "ese_vovnet19b_slim_dw"),
    "xception": ("legacy_xception",),
    "xception_aligned": ("xception41", "xception41p"),
}  # fmt: skip
"""Families of timm, by the name of their module, and the models of each that are tested: its small ones."""

_ATTENTION = "attention between positions"

_TRANSFORMERS = (
    "maxvit_t", "swin_b", "swin_s", "swin_t", "swin_v2_b", "swin_v2_s", "swin_v2_t",
    "vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32",
)  # fmt: skip

REFUSED: dict[str, Refusal] = {
    **{name: Refusal(name, _ATTENTION) for name in _TRANSFORMERS},
    "timm/beit": Refusal("timm/beit_base_patch16_224", _ATTENTION),
    "timm/byoanet": Refusal(
        "timm/halonet_h1", "bottleneck attention, halo attention or lambda layers between positions"
    ),
    "timm/cait": Refusal("timm/cait_xxs24_224", _ATTENTION),
    "timm/coat": Refusal("timm/coat_tiny", _ATTENTION),
    "timm/convit": Refusal("timm/convit_tiny", _ATTENTION),
    "timm/cpubone": Refusal("timm/cpubone_nano", _ATTENTION),
    "timm/crossvit": Refusal("timm/crossvit_tiny_240", _ATTENTION),
    "timm/csatv2": Refusal("timm/csatv2", "attention between positions, after a cosine transform of the image"),
    "timm/davit": Refusal("timm/davit_tiny", _ATTENTION),
    "timm/deepseek_vit": Refusal("timm/deepseek_vit_412m", _ATTENTION),
    "timm/deit": Refusal("timm/deit_tiny_patch16_224", _ATTENTION),
    "timm/edgenext": Refusal(
        "timm/edgenext_xx_small", "attention between channels, with a position encoding, over all positions"
    ),
    "timm/efficientformer": Refusal("timm/efficientformer_l1", _ATTENTION),
    "timm/efficientformer_v2": Refusal("timm/efficientformerv2_s0", _ATTENTION),
    "timm/efficientvim": Refusal("timm/efficientvim_m1", "a state space model over a sequence of positions"),
    "timm/efficientvit_mit": Refusal("timm/efficientvit_b0", _ATTENTION),
    "timm/efficientvit_msra": Refusal("timm/efficientvit_m0", _ATTENTION),
    "timm/eva": Refusal("timm/vit_tiny_patch16_dinov3_qkvb", _ATTENTION),
    "timm/gcvit": Refusal("timm/gcvit_xxtiny", _ATTENTION),
    "timm/gemma4_vit": Refusal("timm/gemma4_vit_167m", _ATTENTION),
    "timm/hiera": Refusal("timm/hiera_tiny_224", _ATTENTION),
    "timm/hieradet_sam2": Refusal("timm/sam2_hiera_tiny", _ATTENTION),
    "timm/iformer": Refusal("timm/iformer_t", _ATTENTION),
    "timm/levit": Refusal("timm/levit_128s", _ATTENTION),
    "timm/maxxvit": Refusal("timm/test_coatnet", _ATTENTION),
    "timm/mlp_mixer": Refusal("timm/gmlp_ti16_224", "linear layers over positions, which become tokens"),
    "timm/mobilenetv5": Refusal("timm/mobilenetv5_base", _ATTENTION),
    "timm/mobilevit": Refusal("timm/mobilevit_xxs", _ATTENTION),
    "timm/mvitv2": Refusal("timm/mvitv2_tiny", _ATTENTION),
    "timm/naflexvit": Refusal("timm/naflexvit_base_patch16_parfac_gap", _ATTENTION),
    "timm/nest": Refusal("timm/nest_tiny", _ATTENTION),
    "timm/nextvit": Refusal("timm/nextvit_small", _ATTENTION),
    "timm/pit": Refusal("timm/pit_ti_224", _ATTENTION),
    "timm/pvt_v2": Refusal("timm/pvt_v2_b0", _ATTENTION),
    "timm/qwen3_vit": Refusal("timm/qwen3_vit_88m", _ATTENTION),
    "timm/sequencer": Refusal("timm/sequencer2d_s", "recurrent layers over rows and columns of tokens"),
    "timm/shvit": Refusal("timm/shvit_s1", _ATTENTION),
    "timm/swiftformer": Refusal("timm/swiftformer_xs", "additive attention over a sequence of positions"),
    "timm/swin_transformer": Refusal("timm/swin_tiny_patch4_window7_224", _ATTENTION),
    "timm/swin_transformer_v2": Refusal("timm/swinv2_tiny_window16_256", _ATTENTION),
    "timm/swin_transformer_v2_cr": Refusal("timm/swinv2_cr_tiny_224", _ATTENTION),
    "timm/tiny_vit": Refusal("timm/tiny_vit_5m_224", _ATTENTION),
    "timm/tnt": Refusal("timm/tnt_s_legacy_patch16_224", _ATTENTION),
    "timm/twins": Refusal("timm/twins_svt_small", _ATTENTION),
    "timm/visformer": Refusal("timm/visformer_tiny", _ATTENTION),
    "timm/vision_transformer": Refusal("timm/test_vit", _ATTENTION),
    "timm/vision_transformer_hybrid": Refusal("timm/vit_tiny_r_s16_p8_224", _ATTENTION),
    "timm/vision_transformer_relpos": Refusal("timm/test_vit_relpos", _ATTENTION),
    "timm/vision_transformer_sam": Refusal("timm/samvit_base_patch16_224", _ATTENTION),
    "timm/vitamin": Refusal("timm/vitamin_small_224", _ATTENTION),
    "timm/volo": Refusal("timm/volo_d1_224", "attention between positions (outlooker), and within windows"),
    "timm/xcit": Refusal("timm/xcit_nano_12_p8_224", "attention between channels of a sequence of tokens"),
}
"""All other classifiers of torchvision by their name, and the other families of timm by "timm/" and their module's."""
