"""Passes that make a mixture fast and keep what it computes: see `nasturtium.model.fast_mixture`.

`forms` writes what decisions select among as weighted sums; `expressions` builds the mixture out of values that stand
once each; `schedule` fuses and orders them; `kernels` has the fused operations and their gradients.
"""
