"""The spaces and families by name, where text comes in: the command line and stored files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nasturtium.errors import UnknownNameError
from nasturtium.space import Space
from nasturtium.zoo import nasbench101, nasbench201, once_for_all
from nasturtium.zoo.chain import chain
from nasturtium.zoo.mobile import mobile
from nasturtium.zoo.proxylessnas import proxylessnas

SPACES: dict[str, Callable[..., Space]] = {
    "chain": chain,
    "mobile": mobile,
    "nasbench101": nasbench101.space,
    "nasbench201": nasbench201.space,
    "ofa_mobilenetv3": once_for_all.mobilenetv3_space,
    "ofa_resnet50d": once_for_all.resnet50d_space,
    "ofa_proxyless": once_for_all.proxyless_space,
    "proxylessnas": proxylessnas,
}
"""Each takes the task's input shape, `(channels, height, width)`, and has one of its own as default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What is known of a space or a family of networks.

    Attributes:
        name: Its name; of `SPACES` where it is a space.
        title: What it is, in words.
        level: "cell" or "network".
        task: What it was made for.
        paper: Authors, year, title, arXiv id.
        size: Exact size of its space with the default input, or None where it has no space or that is not counted.
        quoted_size: The paper's own figure, as printed, or None.
    """

    name: str
    title: str
    level: str
    task: str
    paper: str
    size: int | None = None
    quoted_size: str | None = None


_CLASSIFICATION = "image classification"

FAMILIES: tuple[Family, ...] = (
    Family(
        name="chain",
        title="Chain of convolution, pooling and linear layers",
        level="network",
        task=_CLASSIFICATION,
        paper='Elsken et al. 2019, "Neural Architecture Search: A Survey", arXiv 1808.05377',
        size=208_039_104,
    ),
    Family(
        name="mobile",
        title="Inverted residuals for small images",
        level="network",
        task=_CLASSIFICATION,
        paper='after Sandler et al. 2018, "MobileNetV2", arXiv 1801.04381',
        size=1_391_054_472,
    ),
    Family(
        name="nasbench101",
        title="NAS-Bench-101 cells",
        level="cell",
        task=_CLASSIFICATION,
        paper='Ying et al. 2019, "NAS-Bench-101", arXiv 1902.09635',
        quoted_size="423,624 unique cells",
    ),
    Family(
        name="nasbench201",
        title="NAS-Bench-201 cells",
        level="cell",
        task=_CLASSIFICATION,
        paper='Dong, Yang 2020, "NAS-Bench-201", arXiv 2001.00326',
        size=15_625,
        quoted_size="15,625",
    ),
    Family(
        name="ofa_mobilenetv3",
        title="Once-for-All, MobileNetV3",
        level="network",
        task=_CLASSIFICATION,
        paper='Cai et al. 2020, "Once-for-All", arXiv 1908.09791',
        size=21_758_655_492_572_485_851,
        quoted_size="2e19",
    ),
    Family(
        name="ofa_proxyless",
        title="Once-for-All, ProxylessNAS",
        level="network",
        task=_CLASSIFICATION,
        paper='Cai et al. 2020, "Once-for-All", arXiv 1908.09791',
        size=195_827_899_433_152_372_659,
    ),
    Family(
        name="ofa_resnet50d",
        title="Once-for-All, ResNet-50D",
        level="network",
        task=_CLASSIFICATION,
        paper='Cai et al. 2020, "Once-for-All", arXiv 1908.09791, and the authors\' code',
        size=1_639_276_531_308,
    ),
    Family(
        name="proxylessnas",
        title="ProxylessNAS for ImageNet",
        level="network",
        task=_CLASSIFICATION,
        paper='Cai et al. 2019, "ProxylessNAS", arXiv 1812.00332',
        size=221_502_229_807_900_608,
    ),
    Family(
        name="resnet",
        title="ResNet, ResNeXt, Wide ResNet, SE-ResNet",
        level="network",
        task=_CLASSIFICATION,
        paper='He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv 1512.03385',
    ),
    Family(
        name="mobilenetv2",
        title="MobileNetV2",
        level="network",
        task=_CLASSIFICATION,
        paper='Sandler et al. 2018, "MobileNetV2", arXiv 1801.04381',
    ),
    Family(
        name="mobilenetv3",
        title="MobileNetV3",
        level="network",
        task=_CLASSIFICATION,
        paper='Howard et al. 2019, "Searching for MobileNetV3", arXiv 1905.02244',
    ),
    Family(
        name="mnasnet",
        title="MnasNet A1, B1, small; Single-Path NAS",
        level="network",
        task=_CLASSIFICATION,
        paper='Tan et al. 2019, "MnasNet", arXiv 1807.11626',
    ),
    Family(
        name="efficientnet",
        title="EfficientNet, EfficientNet-Lite, TinyNet",
        level="network",
        task=_CLASSIFICATION,
        paper='Tan, Le 2019, "EfficientNet", arXiv 1905.11946',
    ),
    Family(
        name="fbnet",
        title="FBNet-C",
        level="network",
        task=_CLASSIFICATION,
        paper='Wu et al. 2019, "FBNet", arXiv 1812.03443',
    ),
    Family(
        name="hardcorenas",
        title="HardCoRe-NAS A to F",
        level="network",
        task=_CLASSIFICATION,
        paper='Nayman et al. 2021, "HardCoRe-NAS", arXiv 2102.11646',
    ),
    Family(
        name="lcnet",
        title="PP-LCNet",
        level="network",
        task=_CLASSIFICATION,
        paper='Cui et al. 2021, "PP-LCNet", arXiv 2109.15099',
    ),
    Family(
        name="mobilenetv1",
        title="MobileNet",
        level="network",
        task=_CLASSIFICATION,
        paper='Howard et al. 2017, "MobileNets", arXiv 1704.04861',
    ),
)
"""The families; those with a space have its name."""


def space(name: str, input_shape: tuple[int, ...] | None = None) -> Space:
    """A space by its name.

    Args:
        name: One of `SPACES`.
        input_shape: `(channels, height, width)` of the task's images; None takes the space's own.

    Raises:
        UnknownNameError: no space of that name; the message lists the names.
    """
    if name not in SPACES:
        raise UnknownNameError("space", name, SPACES)
    return SPACES[name]() if input_shape is None else SPACES[name](tuple(input_shape))


def family(name: str) -> Family:
    """What is known of a family.

    Raises:
        UnknownNameError: no family of that name; the message lists the names.
    """
    for known in FAMILIES:
        if known.name == name:
            return known
    raise UnknownNameError("family", name, [known.name for known in FAMILIES])
