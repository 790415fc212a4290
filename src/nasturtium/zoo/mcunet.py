"""MCUNet and TinyNAS."""

from __future__ import annotations

from nasturtium.zoo.listing import Family
from nasturtium.zoo.proxylessnas import from_row

FAMILIES = (
    Family(
        name="mcunet",
        title="MCUNet",
        paper='Lin et al. 2020, "MCUNet: Tiny Deep Learning on IoT Devices", arXiv 2007.10319',
        rows={"MCUNet/TinyNAS": from_row},
    ),
)
