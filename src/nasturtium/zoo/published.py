"""Published architectures by the rows of the reference file: a network's name, or its configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import Block
from nasturtium.zoo import fbnet, hardcorenas, lcnet, mobilenetv1, nasbench101, nasbench201, once_for_all, proxylessnas
from nasturtium.zoo.efficientnet import efficientnet, tinynet
from nasturtium.zoo.mnasnet import mnasnet
from nasturtium.zoo.mobilenetv2 import mobilenetv2
from nasturtium.zoo.mobilenetv3 import mobilenetv3, mobilenetv3_rw
from nasturtium.zoo.resnet import Variant, resnet, resnet_cifar

CLASSES = 1000
"""Of ImageNet, for which the networks are published."""

Maker = Callable[[re.Match[str], int], Block]

SE_RATIO = 1 / 16
"""Of SE-ResNet."""


def _multiplier(digits: str) -> float:
    """Multiplier of its digits: "075" and "0_75" are 0.75, "100" and "1_0" are 1."""
    return float(digits.replace("_", ".")) if "_" in digits else int(digits) / 100


def _mobilenetv2(match: re.Match[str], classes: int) -> Block:
    width = _multiplier(match[1])
    if not match[2]:
        return mobilenetv2(width, classes=classes)
    return mobilenetv2(width, round(2 * width - 1, 2), fix_ends=True, classes=classes)


def _mobilenetv3(match: re.Match[str], classes: int) -> Block:
    return mobilenetv3(
        match[2],
        _multiplier(match[4]),
        1.2 if match[5] else 1.0,
        is_minimal=bool(match[3]),
        padding="tf_same" if match[1] else "same",
        classes=classes,
    )


def _efficientnet(match: re.Match[str], classes: int) -> Block:
    padding = "tf_same" if match[1] else "same"
    return efficientnet(match[2], padding=padding, classes=classes)


def _resnet(match: re.Match[str], classes: int) -> Block:
    found = match.groupdict()
    variant = Variant(
        letter=found.get("letter") or "",
        groups=int(found.get("groups") or 1),
        base_width=int(found.get("base") or 64 * int(found.get("wide") or 1)),
        se=SE_RATIO if found.get("se") else None,
    )
    return resnet(int(match["depth"]), variant, classes=classes)


RESNETS = (
    r"(?:tv_|ssl_|swsl_)?(?P<se>se)?resnet(?P<depth>\d+)(?P<letter>[cdst]?)",
    r"(?:tv_|ssl_|swsl_)?(?P<se>se)?resnext(?P<depth>\d+)(?P<letter>[cdst]?)_(?P<groups>\d+)x(?P<base>\d+)d",
    r"wide_resnet(?P<depth>\d+)_(?P<wide>\d)",
)

TIMM: tuple[tuple[str, Maker], ...] = (
    (r"mobilenetv2_(\d{3})(d?)", _mobilenetv2),
    (r"(tf_)?mobilenetv3_(large|small)_(minimal_)?(\d{3})(d?)(?:_miil)?", _mobilenetv3),
    (r"mobilenetv3_rw", lambda _, c: mobilenetv3_rw(classes=c)),
    (r"mobilenetv1_(\d{3})", lambda m, c: mobilenetv1.mobilenetv1(_multiplier(m[1]), classes=c)),
    (r"lcnet_(\d{3})", lambda m, c: lcnet.lcnet(_multiplier(m[1]), classes=c)),
    (r"hardcorenas_([a-f])", lambda m, c: hardcorenas.hardcorenas(m[1], classes=c)),
    (r"mnasnet_(small|a1|b1)", lambda m, c: mnasnet(m[1], classes=c)),
    (r"mnasnet_(\d{3})", lambda m, c: mnasnet("b1", _multiplier(m[1]), classes=c)),
    (r"semnasnet_(\d{3})", lambda m, c: mnasnet("a1", _multiplier(m[1]), classes=c)),
    (r"spnasnet_(\d{3})", lambda m, c: mnasnet("single_path", _multiplier(m[1]), classes=c)),
    (r"fbnetc_(\d{3})", lambda m, c: fbnet.fbnet_c(_multiplier(m[1]), classes=c)),
    (r"(tf_)?efficientnet_(b\d|l2|lite\d)(?:(?<=b[23])a|_ap|_ns)?", _efficientnet),
    (r"tinynet_([a-e])", lambda m, c: tinynet(m[1], classes=c)),
    *((pattern, _resnet) for pattern in RESNETS),
)
"""Names of timm: pattern of the whole name, and what makes the network."""

TORCHVISION: tuple[tuple[str, Maker], ...] = (
    (r"mobilenet_v2", lambda _, c: mobilenetv2(classes=c)),
    (r"mobilenet_v3_(large|small)", lambda m, c: mobilenetv3(m[1], classes=c)),
    (r"mnasnet(\d_\d+)", lambda m, c: mnasnet("b1", _multiplier(m[1]), momentum=0.0003, classes=c)),
    (r"efficientnet_(b[0-7])", lambda m, c: efficientnet(m[1], classes=c)),
    *((pattern, _resnet) for pattern in RESNETS),
)
"""Names of torchvision."""

FAMILIES = (
    "efficientnet_b0 … b8, l2, lite0 … lite4",
    "fbnetc_100",
    "hardcorenas_a … f",
    "lcnet_NNN",
    "mnasnet_NNN, semnasnet_NNN, mnasnet_small, mnasnetN_N",
    "mobilenetv1_NNN",
    "mobilenetv2_NNN",
    "mobilenetv3_large_NNN, mobilenetv3_small_NNN",
    "resnetNN, resnextNN_GxWd, wide_resnetNN_2, seresnetNN",
    "spnasnet_NNN",
    "tinynet_a … e",
)
"""The named families, as error messages show them."""


def by_name(name: str, library: str = "timm", *, classes: int = CLASSES) -> Block:
    """The network that a library calls by a name.

    Args:
        name: For example "mobilenetv2_075" (timm) or "mnasnet0_75" (torchvision); what follows a dot (the weights) is
            ignored.
        library: "timm" or "torchvision".
        classes: Number of classes.

    Raises:
        UnknownNameError: no family of that name; the message lists them.
    """
    tables = {"timm": TIMM, "torchvision": TORCHVISION}
    if library not in tables:
        raise UnknownNameError("library", library, tables)
    for pattern, make in tables[library]:
        match = re.fullmatch(pattern, name.split(".")[0])
        if match is not None:
            return make(match, classes)
    raise UnknownNameError(f"{library} network", name, FAMILIES)


def _ofa(row: Mapping[str, Any]) -> Block:
    """Once-for-All networks of one kernel, expansion and depth, and the supernets."""
    name, config = str(row["name"]), row["config"]
    if name.startswith("ofa_resnet50"):
        if config == "supernet":
            return once_for_all.resnet50d(classes=CLASSES)
        return once_for_all.resnet50d(depth=config["d"], ratio=config["e"], width=config["w"], classes=CLASSES)
    match = re.match(r"ofa_(mbv3|proxyless)_w(\d\.\d+)", name)
    if match is None:
        raise UnknownNameError("Once-for-All network", name, ("ofa_mbv3_wN.N", "ofa_proxyless_wN.N", "ofa_resnet50"))
    family = once_for_all.MOBILENETV3 if match[1] == "mbv3" else once_for_all.PROXYLESS
    width = float(match[2])
    if config == "supernet":
        return once_for_all.supernet(family, width, classes=CLASSES)
    return once_for_all.uniform(
        family, width, kernel=config["ks"], expand=config["e"], depth=config["d"], classes=CLASSES
    )


def _blocks(row: Mapping[str, Any]) -> Block:
    """Networks given as a list of blocks: ProxylessNAS, MCUNet."""
    config = row["config"]
    key = next((key for key in config if key.startswith("blocks_k_e_")), None)
    if key is None:
        raise InvalidInputError(f"A row of {row['space']!r} needs a list of blocks, got {config!r}.")
    features = config.get("last", config.get("classifier_in"))
    return proxylessnas.from_blocks(config["stem"], config[key], features, norm=config.get("bn"), classes=CLASSES)


def _pycls(row: Mapping[str, Any]) -> Block:
    match = re.fullmatch(r"R-(\d+)", str(row["config"]))
    if match is None:
        raise UnknownNameError("pycls network", str(row["config"]), ("R-56", "R-110"))
    return resnet_cifar(int(match[1]), shortcut="conv", classes=10)


def _reference_model(row: Mapping[str, Any]) -> Block:
    return by_name(row["config"]["model"], row["config"]["library"])


ROWS: dict[str, Callable[[Mapping[str, Any]], Block]] = {
    "reference-model": _reference_model,
    "OFA": _ofa,
    "OFA-MobileNetV3": lambda row: once_for_all.specialised(row["config"], classes=CLASSES),
    "OFA-ProxylessNASNets": lambda row: once_for_all.specialised(row["config"], classes=CLASSES),
    "ProxylessNAS": _blocks,
    "MCUNet/TinyNAS": _blocks,
    "NAS-Bench-101": nasbench101.published,
    "NAS-Bench-201": nasbench201.published,
    "pycls": _pycls,
}
"""What makes the network of a row, by its "space"."""


def published(row: Mapping[str, Any]) -> Block:
    """The closed network of a row of the reference file, as it stands there.

    Args:
        row: With "space" and "config"; for `space="reference-model"`, the config holds "library" ("timm" or
            "torchvision") and "model", the library's name.

    Returns:
        A closed block that knows its number of classes: `trace(block, row["input_size"])` has the row's parameters
        and MACs.

    Raises:
        UnknownNameError: no family of that name; the message lists those that exist.
        InvalidInputError: the row lacks "space" or "config", or its configuration is malformed.

    Example:
        >>> import nasturtium as nas
        >>> row = {"space": "reference-model", "config": {"library": "timm", "model": "mobilenetv2_100"}}
        >>> nas.trace(nas.zoo.published(row), (3, 224, 224)).params
        3504872
    """
    missing = [key for key in ("space", "config") if key not in row]
    if missing:
        raise InvalidInputError(f"A reference row needs {' and '.join(missing)}, got the keys {sorted(row)}.")
    if row["space"] not in ROWS:
        raise UnknownNameError("space of published networks", str(row["space"]), ROWS)
    try:
        return ROWS[row["space"]](row)
    except (KeyError, TypeError, IndexError) as error:
        raise InvalidInputError(f"The row {row.get('name')!r} of {row['space']!r} is malformed: {error!r}.") from error
