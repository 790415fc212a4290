"""Bricks of networks: what a search space is made of. Plain values; nothing here knows PyTorch."""

from nasturtium.blocks.cell import PreActConv, SumCell, Zero
from nasturtium.blocks.conv import AvgPool, Classifier, Conv, Identity, Linear, MaxPool, Sequential
from nasturtium.blocks.heads import ASPP, DeepLabHead, PixelClassifier, RetinaNetHead, retinanet_head
from nasturtium.blocks.layers import conv_norm_act, depthwise, make_divisible, squeeze_excite
from nasturtium.blocks.mobile import DepthwiseSeparable, MBConv
from nasturtium.blocks.pyramid import Detector, Features, PyramidStack, backbone_features
from nasturtium.blocks.repeat import Repeat, repeat
from nasturtium.blocks.residual import BasicBlock, Bottleneck
from nasturtium.blocks.shuffle import ShuffleUnit
from nasturtium.blocks.trellis import Trellis

__all__ = [
    "ASPP",
    "AvgPool",
    "BasicBlock",
    "Bottleneck",
    "Classifier",
    "Conv",
    "DeepLabHead",
    "DepthwiseSeparable",
    "Detector",
    "Features",
    "Identity",
    "Linear",
    "MBConv",
    "MaxPool",
    "PixelClassifier",
    "PreActConv",
    "PyramidStack",
    "Repeat",
    "RetinaNetHead",
    "Sequential",
    "ShuffleUnit",
    "SumCell",
    "Trellis",
    "Zero",
    "backbone_features",
    "conv_norm_act",
    "depthwise",
    "make_divisible",
    "repeat",
    "retinanet_head",
    "squeeze_excite",
]
