"""TinyNAS' first stage: the published table of the best spaces, row by row.

Run: `python benchmarks/tinynas.py --reference ../shared/reference_values.json`, about a minute and a half on one core.

For three pairs of limits and two models of memory (in place: TinyEngine's depthwise; in + out: each convolution's
input and output), 1,000 networks are drawn of each of the 108 spaces, and the mean and the 80 % quantile of the MACs of
those that fit are compared with the table. The table's kB and MB are KiB and MiB, and its draws are hierarchical; its
own draws are others, so rows agree up to the sampling error, which is printed in standard errors of both tables.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from nasturtium.design.footprint import Footprints
from nasturtium.design.tiny import LEAST, Limits, sample_footprints, scan
from nasturtium.zoo import mcunet

ENGINES = {"inplace": "tinyengine", "inout": "conv_in_out"}
BUDGETS = {"256kB/1MB": (256, 1), "320kB/1MB": (320, 1), "512kB/2MB": (512, 2)}
PUBLISHED = {"256kB/1MB": (0.5, 160), "320kB/1MB": (0.5, 176), "512kB/2MB": (1.0, 160)}
"""Spaces that MCUNet's published networks stand in."""
RESERVE = 45 * 1024
"""Bytes of SRAM that TinyEngine takes beside activations, about."""


def main() -> int:
    """Run and print; 1 where a row differs by more than sampling explains, or a pick differs."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--reference", type=Path, default=Path("../shared/reference_values.json"))
    made.add_argument("--samples", type=int, default=1000)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--json", type=Path, help="also write all rows there")
    given = made.parse_args()
    table = json.loads(given.reference.read_text())["tinynas_stage1_reference"]
    spaces = mcunet.tinynas_spaces()
    records, wrong = [], 0
    for tag, engine in ENGINES.items():
        start = time.perf_counter()
        footprints = {r: Footprints((3, r, r), engine, classes=1000) for r in mcunet.RESOLUTIONS}
        sampled = sample_footprints(spaces, lambda key, f=footprints: f[key[1]], samples=given.samples, seed=given.seed)
        print(f"\n{tag}: {len(spaces)} spaces, {given.samples} networks each, {time.perf_counter() - start:.0f} s")
        for name, (sram, flash) in BUDGETS.items():
            limits = Limits(sram=sram << 10, flash=flash << 20)
            found = {c.key: c for c in scan(sampled, limits).candidates}
            print(f"{name}  width  px   mean (table)      p80 (table)       fit (table)    z mean   z fit")
            for mean, quantile, width, resolution, share in table[f"{name}|{tag}"]:
                one = found[width, resolution]
                count = max(1, len(one.macs))
                spread = np.std(one.macs) / 1e6 * (1 / count + 1 / max(1, 1000 * share)) ** 0.5
                z_mean = (one.mean / 1e6 - mean) / spread if spread else 0.0
                pooled = (one.acceptance + share) / 2
                error = (max(pooled * (1 - pooled), 1e-6) * (1 / given.samples + 1 / 1000)) ** 0.5
                z_share = (one.acceptance - share) / error
                wrong += abs(z_mean) > 4 or abs(z_share) > 4
                print(
                    f"           {width:5g} {resolution:4d}  {one.mean / 1e6:6.1f} ({mean:6.1f})  "
                    f"{one.quantile() / 1e6:6.1f} ({quantile:6.1f})  {one.acceptance:6.3f} ({share:5.3f})  "
                    f"{z_mean:+5.1f}  {z_share:+5.1f}"
                )
                records.append(
                    {
                        "limits": name, "memory": tag, "width": width, "resolution": resolution,
                        "mean": one.mean / 1e6, "mean_table": mean, "p80": one.quantile() / 1e6, "p80_table": quantile,
                        "fit": one.acceptance, "fit_table": share, "z_mean": z_mean, "z_fit": z_share,
                    }
                )  # fmt: skip
            best = scan(sampled, limits).best(least=LEAST).key
            first = tuple(table[f"{name}|{tag}"][0][2:4])
            wrong += best != first
            print(f"           picked {best}, the table's first {first}")
            if tag == "inplace":
                tight = Limits(sram=sram << 10, flash=flash << 20, sram_reserve=RESERVE)
                moved = scan(sampled, tight).best(least=LEAST).key
                wrong += moved != PUBLISHED[name]
                print(f"           with 45 KiB reserved {moved}, the published networks' {PUBLISHED[name]}")
    z = np.array([[r["z_mean"], r["z_fit"]] for r in records])
    print(f"\n{len(records)} rows; root mean square of z: mean {np.sqrt((z[:, 0] ** 2).mean()):.2f}, share", end=" ")
    print(f"{np.sqrt((z[:, 1] ** 2).mean()):.2f}; {wrong} differ by more than 4 standard errors, or pick another space")
    if given.json:
        given.json.write_text(json.dumps(records, indent=1))
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
