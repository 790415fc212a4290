"""The scores by name, each from what the estimator prepares."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import nn

from nasturtium.estimators.zero_cost.batch_scores import jacob_cov, naswot
from nasturtium.estimators.zero_cost.batches import draw_batches
from nasturtium.estimators.zero_cost.features import feature_graph
from nasturtium.estimators.zero_cost.flow import synflow
from nasturtium.estimators.zero_cost.gradient_scores import (
    Pairs,
    first_order,
    grasp,
    l2_norm,
    norm_of,
    one_pass,
    plain_of,
    snip_of,
    zico_of,
)
from nasturtium.estimators.zero_cost.networks import Batch, draw_as_pytorch
from nasturtium.estimators.zero_cost.zen import zen
from nasturtium.graph.graph import Graph
from nasturtium.model import build
from nasturtium.tasks import Task

OF_GRADIENTS = ("grad_norm", "plain", "snip", "zico")
"""Scores that are made of the weights' gradients."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One network to be scored; what a score does not ask for is not made."""

    names: tuple[str, ...]
    """The scores that are asked for."""
    graph: Graph
    task: Task
    seed: int
    images: int
    batches: int
    initialization: str
    repeats: int
    device: torch.device

    @cached_property
    def model(self) -> nn.Module:
        """The network at its start."""
        model = build(self.graph, seed=self.seed)
        if self.initialization == "pytorch":
            draw_as_pytorch(model, self.seed)
        return model.to(self.device)

    @cached_property
    def data(self) -> list[Batch]:
        """Labelled train images."""
        return draw_batches(self.task, images=self.images, count=self.batches, seed=self.seed, device=self.device)

    @cached_property
    def passed(self) -> tuple[Pairs, float]:
        """Weights and gradients on the first batch, and the channels' saliency: whichever of the two is asked for."""
        weights = not {*self.names}.isdisjoint(OF_GRADIENTS)
        return one_pass(self.model, self.data[0], channels="fisher" in self.names, weights=weights)

    @property
    def pairs(self) -> Pairs:
        """Weights and gradients on the first batch."""
        return self.passed[0]

    def zico(self) -> float:
        """ZiCo, whose first batch is that of the other scores."""
        others = [first_order(self.model, batch) for batch in self.data[1:]]
        return zico_of([[g for _, g in pairs] for pairs in (self.pairs, *others)])

    @cached_property
    def shapeless(self) -> Batch:
        """A batch that only says the images' shape, for scores without data."""
        shape = (1, *self.graph.nodes[0].shape)
        return Batch(torch.zeros(shape, device=self.device), torch.zeros(1, dtype=torch.int64, device=self.device))

    def zen(self, *, residual: bool) -> float:
        """Zen-score of the features."""
        features = build(feature_graph(self.graph, residual=residual), seed=self.seed).to(self.device)
        return zen(features, self.graph.nodes[0].shape, seed=self.seed, repeats=self.repeats)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A score of untrained networks.

    Args:
        score: The number, larger for networks that the paper holds to be better.
        description: One line for people.
        data: Whether it looks at images.
        passes: Forward and backward passes over a batch, in forward passes; for forecasts.
    """

    score: Callable[[Subject], float]
    description: str
    data: bool = True
    passes: float = 3.0


def _on_batch(score: Callable[[nn.Module, Batch], float], subject: Subject) -> float:
    return score(subject.model, subject.data[0])


def _log_synflow(subject: Subject) -> float:
    flow = synflow(subject.model, subject.shapeless)
    return math.log(flow) if flow > 0 else math.nan


PROXIES: dict[str, Proxy] = {
    "fisher": Proxy(score=lambda s: s.passed[1], description="squared saliency of channels (Theis et al. 2018)"),
    "grad_norm": Proxy(score=lambda s: norm_of(s.pairs), description="sum of layers' gradient norms"),
    "grasp": Proxy(
        score=partial(_on_batch, grasp), description="weights times Hessian times gradient (Wang et al. 2020)", passes=9
    ),
    "jacob_cov": Proxy(
        score=partial(_on_batch, jacob_cov), description="how little the images' Jacobians correlate (Mellor et al.)"
    ),
    "l2_norm": Proxy(
        score=lambda s: l2_norm(s.model), description="sum of layers' weight norms", data=False, passes=0
    ),
    "macs": Proxy(score=lambda s: float(s.graph.macs), description="multiply-accumulates", data=False, passes=0),
    "naswot": Proxy(
        score=partial(_on_batch, naswot), description="how the images' ReLU codes differ (Mellor et al. 2021)"
    ),
    "params": Proxy(score=lambda s: float(s.graph.params), description="trainable parameters", data=False, passes=0),
    "plain": Proxy(score=lambda s: plain_of(s.pairs), description="sum of weight times gradient"),
    "snip": Proxy(score=lambda s: snip_of(s.pairs), description="sensitivity to removing weights (Lee et al. 2019)"),
    "synflow": Proxy(
        score=_log_synflow, description="logarithm of the synaptic flow (Tanaka et al. 2020)", data=False, passes=0.2
    ),
    "zen": Proxy(
        score=lambda s: s.zen(residual=False), data=False, passes=16,
        description="sensitivity of features to the input, without residual links (Lin et al. 2021)",
    ),
    "zen_residual": Proxy(
        score=lambda s: s.zen(residual=True), data=False, passes=16, description="as zen, with residual links"
    ),
    "zico": Proxy(
        score=lambda s: s.zico(), description="mean over spread of gradients (Li et al. 2023)", passes=6
    ),
}  # fmt: skip
"""Every score, by the name of its metric."""
