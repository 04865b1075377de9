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

_SMALLEST = {
    "beit": "beit_base_patch16_224", "byoanet": "halonet_h1", "cait": "cait_xxs24_224", "coat": "coat_tiny",
    "convit": "convit_tiny", "cpubone": "cpubone_nano", "crossvit": "crossvit_tiny_240", "csatv2": "csatv2",
    "davit": "davit_tiny", "deepseek_vit": "deepseek_vit_412m", "deit": "deit_tiny_patch16_224",
    "edgenext": "edgenext_xx_small", "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0", "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0", "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb", "gcvit": "gcvit_xxtiny", "gemma4_vit": "gemma4_vit_167m",
    "hiera": "hiera_tiny_224", "hieradet_sam2": "sam2_hiera_tiny", "iformer": "iformer_t", "levit": "levit_128s",
    "maxxvit": "test_coatnet", "mlp_mixer": "gmlp_ti16_224", "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs", "mvitv2": "mvitv2_tiny", "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nest": "nest_tiny", "nextvit": "nextvit_small", "pit": "pit_ti_224", "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m", "sequencer": "sequencer2d_s", "shvit": "shvit_s1", "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224", "swin_transformer_v2": "swinv2_tiny_window16_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224", "tiny_vit": "tiny_vit_5m_224", "tnt": "tnt_s_legacy_patch16_224",
    "twins": "twins_svt_small", "visformer": "visformer_tiny", "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224", "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224", "vitamin": "vitamin_small_224", "volo": "volo_d1_224",
    "xcit": "xcit_nano_12_p8_224",
}  # fmt: skip

_OTHER_REASONS = {
    "byoanet": "bottleneck attention, halo attention or lambda layers between positions",
    "csatv2": "attention between positions, after a cosine transform of the image",
    "edgenext": "attention between channels, with a position encoding, over all positions",
    "efficientvim": "a state space model over a sequence of positions",
    "mlp_mixer": "linear layers over positions, which become tokens",
    "sequencer": "recurrent layers over rows and columns of tokens",
    "swiftformer": "additive attention over a sequence of positions",
    "volo": "attention between positions (outlooker), and within windows",
    "xcit": "attention between channels of a sequence of tokens",
}

REFUSED: dict[str, Refusal] = {
    **{name: Refusal(name, _ATTENTION) for name in _TRANSFORMERS},
    **{
        f"timm/{family}": Refusal(f"timm/{model}", _OTHER_REASONS.get(family, _ATTENTION))
        for family, model in _SMALLEST.items()
    },
}
"""All other classifiers of torchvision by their name, and the other families of timm by "timm/" and their module's."""
