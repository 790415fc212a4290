"""Bayesian optimisation as the lecture draws it: what the model believes, and where it looks next."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from nasturtium.errors import InvalidInputError
from nasturtium.report.figures import COLORS, MUTED, style
from nasturtium.space import Block, Space, int_range
from nasturtium.strategies.learned.auto import Auto
from nasturtium.strategies.learned.bayesian import BayesianOptimization, Model
from nasturtium.strategies.learned.rounds import LEAST
from nasturtium.trial import METRICS
from nasturtium.trial.types import Objective, Problem, Proposal, Strategy, Trial

Array = NDArray[np.float64]

PLACES = 60
"""Values of the one decision."""
INITIAL = 3
"""Random trials before the model: few, so that the first picture shows one that knows little."""
WIDE, NARROW, LOWER = 0.16, 0.06, 0.6
"""Widths of the two hills on an axis of length 1, and height of the wide one; the narrow one is 1 high."""
STEPS = (3, 5, 8, 12)
WITHIN = 1.96
"""Standard deviations to either edge of a 95 % band."""
BLUE, FAINT = "#3b6fb6", "rgba(59,111,182,0.18)"
TITLES = {
    "ucb": "upper<br>confidence bound", "ei": "expected<br>improvement", "pi": "probability<br>of improvement",
    "its": "independent<br>draws", "thompson": "a function<br>drawn",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What a model believes of all places at one step, in the scale in which it works: drawn together, standardised.

    Attributes:
        measured: Places in the order in which they were tried.
        response: The true response at each place.
        mean: What is predicted.
        std: Standard deviation of the prediction.
        scores: The acquisition function, as the strategy takes it: of the expected improvement, its logarithm.
        chosen: The place that the strategy proposes next.
    """

    measured: tuple[int, ...]
    response: Array
    mean: Array
    std: Array
    scores: Array
    chosen: int

    @property
    def exploits(self) -> bool:
        """Whether the mean of the chosen place is among the best tenth; else the choice is made to learn: explores."""
        return bool(self.mean[self.chosen] >= np.quantile(self.mean, 0.9))


@dataclass(frozen=True, slots=True, kw_only=True)
class OneDecision:
    """Beliefs at some steps of a search along one decision."""

    acquisition: str
    beliefs: tuple[Belief, ...]


def two_hills(seed: int) -> Array:
    """A response on `PLACES` places: a wide lower hill and a narrow higher one, at places drawn anew for each seed."""
    rng = Random(f"hills/{seed}")
    places = rng.uniform(0.1, 0.4), rng.uniform(0.6, 0.9)
    wide, narrow = places if rng.random() < 0.5 else reversed(places)
    x = np.linspace(0, 1, PLACES)
    hills: Array = LOWER * np.exp(-(((x - wide) / WIDE) ** 2)) + np.exp(-(((x - narrow) / NARROW) ** 2))
    return hills


class _Axis(Block):
    """One number; nothing is computed with it but a response."""

    value: int

    def forward(self, x: Any) -> Any:
        return x


class Line:
    """A search along one decision: told what it proposes, step by step.

    Args:
        strategy: To run.
        seed: Of the response and of the strategy.
    """

    def __init__(self, strategy: Strategy, seed: int) -> None:
        self.response = two_hills(seed)
        space = Space(_Axis(int_range(0, PLACES - 1, name="value")))
        self.everywhere = [space.of_indices([i]) for i in range(PLACES)]
        self.measured: list[int] = []
        self._strategy = strategy
        strategy.setup(Problem(space=space, objectives=(Objective(metric="value", direction="maximize"),), seed=seed))

    def step(self) -> int:
        """Ask, tell; returns the place.

        Raises:
            InvalidInputError: the strategy proposes nothing more.
        """
        number = len(self.measured)
        proposal = self._strategy.ask(number)
        if not isinstance(proposal, Proposal):
            raise InvalidInputError(f"The strategy {self._strategy!r} proposes nothing at trial {number}: {proposal}.")
        place = proposal.architecture.decisions["value"]
        self.measured.append(place)
        metrics = {"value": float(self.response[place])}
        self._strategy.tell(Trial(number=number, architecture=proposal.architecture, metrics=metrics))
        return place


def along_one_decision(acquisition: Any = "ucb") -> BayesianOptimization:
    """The strategy of the figure: a squared-exponential kernel on the one decision, few random trials before it."""
    return BayesianOptimization(initial=INITIAL, acquisition=acquisition, kernels="ordered", candidates=PLACES)


def search_one_decision(acquisition: str = "ucb", *, steps: Sequence[int] = STEPS, seed: int = 6) -> OneDecision:
    """Run `BayesianOptimization` along one decision, and keep what its model believes at some steps.

    Args:
        acquisition: As the strategy takes it.
        steps: Numbers of trials, rising, in [3, 50].
        seed: Of the response and of the strategy.

    Raises:
        InvalidInputError: there are no such steps, or no such acquisition function.
    """
    if not steps or list(steps) != sorted(set(steps)) or steps[0] < INITIAL or steps[-1] > PLACES - 10:
        raise InvalidInputError(f"Expected rising `steps` in [{INITIAL}, {PLACES - 10}], got {list(steps)}.")
    strategy = along_one_decision(acquisition)
    line = Line(strategy, seed)
    beliefs = []
    for number in range(steps[-1] + 1):
        model = Model(strategy, number) if number in steps else None
        measured = tuple(line.measured)
        if model is None:
            line.step()
            continue
        said, scores = model.posterior(line.everywhere, 0), model.scores(line.everywhere)
        beliefs.append(
            Belief(
                measured=measured,
                response=model.warps[0].forward(line.response),
                mean=said.mean,
                std=said.std,
                scores=scores,
                chosen=line.step(),
            )
        )
    return OneDecision(acquisition=acquisition, beliefs=tuple(beliefs))


def posterior_figure(found: OneDecision) -> go.Figure:
    """Above, at each step, the response, what was measured and what the model believes; below, its acquisition."""
    steps = found.beliefs
    titles = [f"{len(b.measured)} trials: {'exploits' if b.exploits else 'explores'}" for b in steps]
    figure = make_subplots(
        rows=2, cols=len(steps), shared_xaxes=True, shared_yaxes="rows", row_heights=[0.66, 0.34],
        vertical_spacing=0.07, horizontal_spacing=0.02, subplot_titles=titles,
    )  # fmt: skip
    for column, belief in enumerate(steps, 1):
        _draw_belief(figure, belief, column)
        _draw_acquisition(figure, found, belief, column)
    style(figure, "", "", height=480)
    figure.update_layout(legend={"y": 1.12}, margin={"t": 80})
    figure.update_annotations(font_size=13)
    tops = [b.mean + by * b.std for b in steps for by in (-WITHIN, WITHIN)] + [b.response for b in steps]
    for row, shown in (
        (1, tops),
        (2, [_drawn(found, b) for b in steps]),
    ):  # the vertical lines confuse an automatic range
        low, high = float(np.min(shown)), float(np.max(shown))
        figure.update_yaxes(range=[low - 0.05 * (high - low), high + 0.08 * (high - low)], row=row)
    figure.update_xaxes(range=[-1, PLACES])
    figure.update_xaxes(title_text="decision", row=2)
    figure.update_yaxes(title_text="response (standardised)", row=1, col=1)
    figure.update_yaxes(title_text=TITLES[found.acquisition], row=2, col=1)
    return figure


def _draw_belief(figure: go.Figure, belief: Belief, column: int) -> None:
    x = list(range(PLACES))
    low, high = belief.mean - WITHIN * belief.std, belief.mean + WITHIN * belief.std
    place: dict[str, Any] = {"row": 1, "col": column}
    shown = {"showlegend": column == 1}
    figure.add_scatter(
        x=[*x, *reversed(x)], y=[*high, *reversed(low)], fill="toself", fillcolor=FAINT,
        line={"width": 0}, hoverinfo="skip", name="95 % band", legendgroup="band", **shown, **place,
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=belief.response, mode="lines", line={"color": MUTED, "width": 1.5, "dash": "dot"},
        name="true response", legendgroup="response", **shown, **place,
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=belief.mean, mode="lines", line={"color": BLUE, "width": 2}, name="predicted mean",
        legendgroup="mean", **shown, **place,
    )  # fmt: skip
    figure.add_scatter(
        x=belief.measured, y=[belief.response[i] for i in belief.measured], mode="markers",
        marker={"color": "#1f2a37", "size": 7}, name="measured", legendgroup="measured", **shown, **place,
    )  # fmt: skip
    figure.add_vline(x=belief.chosen, line={"color": COLORS["search"], "width": 1, "dash": "dash"}, **place)


def _draw_acquisition(figure: go.Figure, found: OneDecision, belief: Belief, column: int) -> None:
    x = list(range(PLACES))
    scores = _drawn(found, belief)
    place: dict[str, Any] = {"row": 2, "col": column}
    figure.add_scatter(
        x=x, y=scores, mode="lines", line={"color": COLORS["reference"], "width": 2}, name="acquisition",
        legendgroup="acquisition", showlegend=column == 1, **place,
    )  # fmt: skip
    figure.add_scatter(
        x=[belief.chosen], y=[scores[belief.chosen]], mode="markers", name="chosen next", legendgroup="chosen",
        marker={"color": COLORS["search"], "size": 11, "symbol": "diamond"}, showlegend=column == 1, **place,
    )  # fmt: skip
    figure.add_vline(x=belief.chosen, line={"color": COLORS["search"], "width": 1, "dash": "dash"}, **place)


def _drawn(found: OneDecision, belief: Belief) -> Array:
    """The acquisition function; of the expected improvement the strategy takes the logarithm."""
    return np.exp(belief.scores) if found.acquisition == "ei" else belief.scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """Candidates as a strategy weighs them at one ask; the last one is its choice.

    Attributes:
        metric: That is predicted.
        mean: Predicted for each candidate, in the metric's unit.
        std: Standard deviation, in the scale in which the model works (standardised over what was measured).
        scores: The acquisition function.
        origins: Where each comes from.
        best: The best that was measured.
    """

    metric: str
    mean: Array
    std: Array
    scores: Array
    origins: tuple[str, ...]
    best: float


def weighed(strategy: BayesianOptimization | Auto, number: int) -> Weighed:
    """What the strategy hopes of its candidates now, and which it chooses; the strategy itself is left as it is.

    Args:
        strategy: That was told some trials, in a search or by `recall` and `tell`.
        number: Of the next proposal.

    Raises:
        InvalidInputError: its next proposal is not the model's: too few trials were told, or another part follows; or
            the objective is known beforehand, so that nothing is modelled.
    """
    process = strategy._model if isinstance(strategy, Auto) else strategy
    problem = process._problem
    chosen = copy.deepcopy(strategy, {id(problem): problem, id(problem.space): problem.space}).ask(number)
    modelled = len(process._told) >= LEAST and number >= process.initial
    if isinstance(strategy, Auto):
        modelled = modelled and number < strategy.switch
    if not modelled or not isinstance(chosen, Proposal):
        raise InvalidInputError(
            f"Proposal {number} is not a model's choice: {strategy!r} was told {len(process._told)} usable trials, and "
            f"answers {getattr(chosen, 'origin', chosen)!r}. Give a number between its first random proposals and the "
            "end of its model."
        )
    model, pool, _ = process.weigh(number)
    metric = problem.objectives[0].metric
    if metric not in model.names:
        raise InvalidInputError(f"The first objective, {metric!r}, is known before training: nothing is predicted.")
    choices = [c for c in pool.choices if c.architecture.key != chosen.architecture.key]
    choices = [c for c in choices if process._candidates.admits(c.architecture)]
    architectures = [*(c.architecture for c in choices), chosen.architecture]
    place = model.names.index(metric)
    said = model.posterior(architectures, place)
    sign = float(model.signs[place])
    return Weighed(
        metric=metric,
        mean=sign * model.warps[place].inverse(said.mean),
        std=said.std,
        scores=model.scores(architectures),
        origins=(*(c.origin for c in choices), chosen.origin),
        best=process._wishes.ranked(process._told)[0].metrics[metric],
    )


def acquisition_figure(found: Weighed) -> go.Figure:
    """Candidates by what is predicted (to the right: exploitation) and by what is unknown (upwards: exploration)."""
    figure = go.Figure()
    known = METRICS.get(found.metric)
    for name, symbol, group in (
        ("random candidates", "circle", [i for i, o in enumerate(found.origins[:-1]) if o == "random"]),
        ("neighbours of the best", "square", [i for i, o in enumerate(found.origins[:-1]) if o != "random"]),
    ):
        figure.add_scatter(
            x=found.mean[group], y=found.std[group], mode="markers", name=name,
            marker={"symbol": symbol, "size": 7, "color": found.scores[group], "coloraxis": "coloraxis"},
            hovertemplate="predicted %{x:.4g}, deviation %{y:.3g}, acquisition %{marker.color:.3g}<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=found.mean[-1:], y=found.std[-1:], mode="markers", name=f"chosen ({found.origins[-1]})",
        marker={"symbol": "diamond", "size": 14, "color": COLORS["search"], "line": {"width": 1.5, "color": "#ffffff"}},
        hovertemplate=f"chosen: predicted %{{x:.4g}}, deviation %{{y:.3g}}, acquisition {found.scores[-1]:.3g}"
        "<extra></extra>",
    )  # fmt: skip
    figure.add_vline(x=found.best, line={"color": MUTED, "width": 1.2, "dash": "dash"})
    figure.add_annotation(
        x=found.best, y=1, yref="paper", text="best measured ", xanchor="right", yanchor="top", showarrow=False,
        font={"size": 11, "color": MUTED},
    )  # fmt: skip
    style(figure, f"predicted {found.metric.replace('_', ' ')}", "standard deviation of the model", height=440)
    if known is not None and known.unit == "fraction":
        figure.update_xaxes(tickformat=".1%")
    figure.update_layout(
        coloraxis={
            "colorscale": "Blues",
            "colorbar": {"title": {"text": "acquisition", "font": {"size": 12}}, "thickness": 12, "outlinewidth": 0},
        }
    )
    return figure
