"""A Gaussian process on architectures: a sum of kernels on their decisions and on their graphs.

Parameters are fitted by GPyTorch's exact process and BoTorch's optimiser of the marginal likelihood. Candidates are
predicted by the two equations of the posterior, mean and variance alone: the library would work out the covariance
between all candidates too. All is deterministic: no random restarts, float64; neither the global generator nor
PyTorch's settings are touched.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gpytorch
import numpy as np
import torch
from botorch.exceptions.warnings import OptimizationWarning
from botorch.models.gpytorch import GPyTorchModel
from botorch.optim.fit import fit_gpytorch_mll_scipy
from gpytorch.constraints import Interval
from gpytorch.priors import NormalPrior
from linear_operator.utils.errors import NanError, NotPSDError
from linear_operator.utils.warnings import NumericalWarning
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from torch import Tensor

from nasturtium.errors import InvalidInputError

Array = NDArray[np.float64]

SPREAD = 0.7
"""Standard deviation of the normal priors on the logarithms of scales, lengths and noise: a factor of 2 either
way. Chosen on the development objectives that `docs/reference/search.md` names, against 1.5."""
NOISE = 1e-2
"""Median of the prior on the noise, in variances of the standardised targets: NAS-BOWL's largest."""
NOISE_RANGE = (1e-4, 1.0)
JITTER = 1e-6
ITERATIONS = 30
"""Of the quasi-Newton fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Architectures as a Gaussian process sees them: one matrix for each kernel, `(n, width)` each."""

    squared: tuple[Array, ...] = ()
    """Compared by `exp(-|x - y|^2 / (2 length^2))`; of one-hot rows this is the exponential of the Hamming distance."""
    linear: tuple[Array, ...] = ()
    """Compared by `x . y`; rows of length 1 at most."""

    def __len__(self) -> int:
        return len((*self.squared, *self.linear)[0])

    def take(self, rows: Sequence[int] | Array) -> Rows:
        """Some of the rows."""
        chosen = np.asarray(rows, dtype=np.int64)
        return Rows(squared=tuple(m[chosen] for m in self.squared), linear=tuple(m[chosen] for m in self.linear))


class _Kernel(gpytorch.kernels.Kernel):  # type: ignore[misc]  # gpytorch is not typed
    """The weighted sum of the kernels; its inputs are numbers of rows of one table."""

    has_lengthscale = False

    def __init__(self, lengths: Sequence[float], linear: int) -> None:
        super().__init__()
        parts = len(lengths) + linear
        scale = torch.full((parts,), -np.log(parts), dtype=torch.float64)
        length = torch.tensor(np.log(lengths), dtype=torch.float64)
        self.register_parameter("log_scale", torch.nn.Parameter(scale.clone()))
        self.register_parameter("log_length", torch.nn.Parameter(length.clone()))
        for name, start in (("log_scale", scale), ("log_length", length)):
            if len(start):
                self.register_prior(f"{name}_prior", NormalPrior(start, torch.full_like(start, SPREAD)), name)
        self.distances: list[Tensor] = []
        self.products: list[Tensor] = []

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        i, j = x1[..., 0].long(), x2[..., 0].long()
        total: Any = 0.0
        scales = self.log_scale.exp()
        for k, table in enumerate(self.distances):
            gathered = table[i, j] if diag else table[i][:, j]
            total = total + scales[k] * torch.exp(-0.5 * gathered * torch.exp(-2 * self.log_length[k]))
        for k, table in enumerate(self.products, start=len(self.distances)):
            total = total + scales[k] * (table[i, j] if diag else table[i][:, j])
        return total


class _Process(gpytorch.models.ExactGP, GPyTorchModel):  # type: ignore[misc]
    _num_outputs = 1

    def __init__(self, x: Tensor, y: Tensor, likelihood: Any, kernel: _Kernel) -> None:
        super().__init__(x, y, likelihood)
        self.mean_module = gpytorch.means.ZeroMean()
        self.covar_module = kernel

    def forward(self, x: Tensor) -> Any:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a fit finds."""

    log_scale: tuple[float, ...]
    log_length: tuple[float, ...]
    noise: float


def fit(rows: Rows, targets: Array) -> Parameters:
    """Parameters of largest posterior density: marginal likelihood times priors.

    Lengths start at the median distance of the rows, scales share the variance equally; the fit is a quasi-Newton
    descent from there, always from the same start.

    Args:
        rows: `n` of them.
        targets: `(n,)`, standardised.

    Raises:
        InvalidInputError: there are fewer than two rows.
    """
    if len(rows) < 2:
        raise InvalidInputError(f"A Gaussian process is fitted to 2 or more rows, got {len(rows)}.")
    start = _start(rows)
    process = _process(rows, targets, start)
    likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(process.likelihood, process)
    process.train()
    with warnings.catch_warnings(), gpytorch.settings.fast_computations(False, False, False):
        warnings.simplefilter("ignore", OptimizationWarning)  # that the fit stops after its iterations is meant
        warnings.simplefilter("ignore", NumericalWarning)  # so is a little jitter while parameters are tried
        try:
            fit_gpytorch_mll_scipy(likelihood, options={"maxiter": ITERATIONS})
        except (NanError, NotPSDError):  # degenerate targets: the start is the prior's median, and said to be so
            return start
    kernel = process.covar_module
    return Parameters(
        tuple(kernel.log_scale.tolist()), tuple(kernel.log_length.tolist()), process.likelihood.noise.item()
    )


@dataclass(frozen=True, slots=True)
class Posterior:
    """What a process says of candidates."""

    mean: Array
    std: Array


class Conditioned:
    """A process that knows some measurements.

    Args:
        parameters: Of a fit, perhaps to fewer rows.
        rows: Measured, `n`.
        targets: `(n,)`, standardised.
        pending: Rows under way: believed to turn out as predicted, so that they lower the deviation around them and
            leave the mean (Ginsbourger, Le Riche, Carraro 2010, the kriging believer).
    """

    def __init__(self, parameters: Parameters, rows: Rows, targets: Array, *, pending: Rows | None = None) -> None:
        self._parameters = parameters
        if pending is not None and len(pending):
            believed = Conditioned(parameters, rows, targets).posterior(pending).mean
            rows, targets = _stacked(rows, pending), np.concatenate([targets, believed])
        self._rows = rows
        gram = _kernel(parameters, rows, rows) + (parameters.noise + JITTER) * np.eye(len(rows))
        self._root: Array = cholesky(gram, lower=True)
        self._weights: Array = cho_solve((self._root, True), targets)

    def posterior(self, others: Rows) -> Posterior:
        """Mean and standard deviation (without noise) at other rows."""
        cross = _kernel(self._parameters, self._rows, others)
        explained = np.square(solve_triangular(self._root, cross, lower=True)).sum(axis=0)
        variance = np.maximum(_diagonal(self._parameters, others) - explained, 1e-12)
        return Posterior(cross.T @ self._weights, np.sqrt(variance))

    def covariance(self, others: Rows) -> Array:
        """`(m, m)` covariance (without noise) between other rows."""
        half = solve_triangular(self._root, _kernel(self._parameters, self._rows, others), lower=True)
        found: Array = _kernel(self._parameters, others, others) - half.T @ half
        return found


class Averaged:
    """Several processes, each believed as much as the others: the mean and the variance of their mixture.

    Where they disagree, the mixture is uncertain. A process can be sure of a wrong kernel; several are so more rarely.

    Args:
        processes: At least one; each sees the same architectures in rows of its own.
    """

    def __init__(self, processes: Sequence[Conditioned]) -> None:
        self._processes = tuple(processes)

    def posterior(self, rows: Sequence[Rows]) -> Posterior:
        """Mean and standard deviation (without noise), given the rows for each process."""
        said = [process.posterior(each) for process, each in zip(self._processes, rows, strict=True)]
        means = np.stack([each.mean for each in said])
        variance = np.stack([np.square(each.std) for each in said]).mean(axis=0) + means.var(axis=0)
        return Posterior(means.mean(axis=0), np.sqrt(variance))

    def covariance(self, rows: Sequence[Rows]) -> Array:
        """`(m, m)` covariance (without noise) between the candidates that the rows stand for."""
        pairs = list(zip(self._processes, rows, strict=True))
        within: Array = np.mean([process.covariance(each) for process, each in pairs], axis=0)
        means = np.stack([process.posterior(each).mean for process, each in pairs])
        apart = means - means.mean(axis=0)
        between: Array = apart.T @ apart / len(pairs)
        return within + between


def _diagonal(parameters: Parameters, rows: Rows) -> Array:
    scales = np.exp(parameters.log_scale)
    found = np.full(len(rows), scales[: len(rows.squared)].sum())
    for scale, matrix in zip(scales[len(rows.squared) :], rows.linear, strict=True):
        found += scale * np.square(matrix).sum(axis=1)
    return found


def _kernel(parameters: Parameters, rows: Rows, others: Rows) -> Array:
    """`(n, m)` of the kernel; the same as `_Kernel`, without the machinery of its gradients."""
    scales = np.exp(parameters.log_scale)
    total = np.zeros((len(rows), len(others)))
    for k, (a, b) in enumerate(zip(rows.squared, others.squared, strict=True)):
        total += scales[k] * np.exp(-0.5 * np.exp(-2 * parameters.log_length[k]) * _distances(a, b))
    for k, (a, b) in enumerate(zip(rows.linear, others.linear, strict=True), start=len(rows.squared)):
        total += scales[k] * (a @ b.T)
    return total


def _process(table: Rows, targets: Array, parameters: Parameters) -> _Process:
    """A process on measured rows."""
    likelihood = gpytorch.likelihoods.GaussianLikelihood(
        noise_constraint=Interval(*NOISE_RANGE, initial_value=parameters.noise),
    ).double()
    likelihood.noise_covar.register_prior(
        "log_noise_prior", NormalPrior(np.log(NOISE), SPREAD), lambda module: module.noise.log()
    )
    kernel = _Kernel(
        np.exp(parameters.log_length).tolist() or [], len(parameters.log_scale) - len(parameters.log_length)
    )
    with torch.no_grad():
        kernel.log_scale.copy_(torch.tensor(parameters.log_scale))
        kernel.log_length.copy_(torch.tensor(parameters.log_length))
    kernel.distances = [torch.from_numpy(_distances(m, m)) for m in table.squared]
    kernel.products = [torch.from_numpy(m @ m.T) for m in table.linear]
    x = torch.arange(len(targets), dtype=torch.float64)[:, None]
    return _Process(x, torch.from_numpy(targets), likelihood, kernel)


def _start(rows: Rows) -> Parameters:
    parts = len(rows.squared) + len(rows.linear)
    upper = np.triu_indices(len(rows), 1)
    lengths = tuple(0.5 * float(np.log(max(np.median(_distances(m, m)[upper]), 1e-3))) for m in rows.squared)
    return Parameters(tuple(-float(np.log(parts)) for _ in range(parts)), lengths, NOISE)


def _distances(a: Array, b: Array) -> Array:
    """`(n, m)` squared distances."""
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None, :]
    found: Array = np.maximum(squares - 2 * a @ b.T, 0.0)
    return found


def _stacked(first: Rows, second: Rows) -> Rows:
    return Rows(
        squared=tuple(np.vstack(pair) for pair in zip(first.squared, second.squared, strict=True)),
        linear=tuple(np.vstack(pair) for pair in zip(first.linear, second.linear, strict=True)),
    )
