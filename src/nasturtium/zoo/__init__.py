"""Published search spaces and architectures, one module a family.

`space(name)` and `published(row)` take names from outside; in Python, use a family's module:
`zoo.resnet.resnet(50)`, `zoo.mobile.mobile((3, 32, 32))`.
"""

from nasturtium.zoo import (
    chain,
    efficientnet,
    fbnet,
    hardcorenas,
    lcnet,
    mnasnet,
    mobile,
    mobilenetv1,
    mobilenetv2,
    mobilenetv3,
    nasbench101,
    nasbench201,
    once_for_all,
    proxylessnas,
    resnet,
)
from nasturtium.zoo.mobile import mobilenetv2_small
from nasturtium.zoo.published import by_name, published
from nasturtium.zoo.references import references
from nasturtium.zoo.registry import FAMILIES, SPACES, Family, family, space
from nasturtium.zoo.resnet import resnet_small

__all__ = [
    "FAMILIES",
    "SPACES",
    "Family",
    "by_name",
    "chain",
    "efficientnet",
    "family",
    "fbnet",
    "hardcorenas",
    "lcnet",
    "mnasnet",
    "mobile",
    "mobilenetv1",
    "mobilenetv2",
    "mobilenetv2_small",
    "mobilenetv3",
    "nasbench101",
    "nasbench201",
    "once_for_all",
    "proxylessnas",
    "published",
    "references",
    "resnet",
    "resnet_small",
    "space",
]
