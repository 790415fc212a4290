"""Bricks of networks: what a search space is made of. Plain values; nothing here knows PyTorch."""

from nasturtium.blocks.cell import PreActConv, SumCell, Zero
from nasturtium.blocks.conv import AvgPool, Classifier, Conv, Identity, Linear, MaxPool, Sequential
from nasturtium.blocks.layers import conv_norm_act, depthwise, make_divisible, squeeze_excite
from nasturtium.blocks.mobile import DepthwiseSeparable, MBConv
from nasturtium.blocks.repeat import Repeat, repeat
from nasturtium.blocks.residual import BasicBlock, Bottleneck

__all__ = [
    "AvgPool",
    "BasicBlock",
    "Bottleneck",
    "Classifier",
    "Conv",
    "DepthwiseSeparable",
    "Identity",
    "Linear",
    "MBConv",
    "MaxPool",
    "PreActConv",
    "Repeat",
    "Sequential",
    "SumCell",
    "Zero",
    "conv_norm_act",
    "depthwise",
    "make_divisible",
    "repeat",
    "squeeze_excite",
]
