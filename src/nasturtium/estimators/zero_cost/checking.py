"""How well a proxy ranks networks of a space, before it is trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nasturtium.errors import InvalidInputError
from nasturtium.estimators.protocol import Estimator, Job, ignore
from nasturtium.estimators.zero_cost.agreement import Checked, agreement, check_scores
from nasturtium.estimators.zero_cost.estimator import ZeroCost, with_baselines
from nasturtium.space import Space
from nasturtium.tasks import Task

__all__ = ["Checked", "agreement", "check"]


def check(
    space: Space,
    task: Task,
    proxies: str | Sequence[str] | ZeroCost,
    *,
    reference: Estimator,
    metric: str = "accuracy",
    n: int = 30,
    seed: int = 0,
    directory: Path | None = None,
    report: Callable[[Mapping[str, float]], None] | None = None,
) -> dict[str, Checked]:
    """Score random networks of a space, measure them by a reference too, and say how far the rankings agree.

    Costs `n` estimates of the reference, which is nearly all of the time: a short training, or a table. A search with
    `ZeroCost` does it by itself, on a smaller sample.

    Args:
        space: The space to be searched.
        task: The data.
        proxies: Names, or an estimator with its settings. "params" and "macs" are always added: a proxy that does no
            better has told nothing new.
        reference: What is believed: an estimator such as `Trained(epochs=5)`, or a table.
        metric: Of the reference; larger is better.
        n: Different networks, drawn uniformly. With 30, an interval is about 0.5 wide.
        seed: Determines the networks, the scores (of each network by a seed of its own, as in a search, unless the
            estimator has one for all) and the trainings.
        directory: Where what was measured is kept, so that the same call goes on where it was stopped; None for
            nowhere.
        report: Called after each network with "done" and "of".

    Returns:
        What was found, by proxy.

    Raises:
        InvalidInputError: fewer than 5 networks, or the reference does not measure the metric.
        StoreError: the folder cannot be written.

    Reference:
        As `nasturtium.supernets.trust.measure_trust`: Kendall (1945), tau-b, with a bootstrap over networks.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 5:
        raise InvalidInputError(f"A rank correlation needs 5 networks or more, got n={n!r}.")
    given = proxies if isinstance(proxies, ZeroCost) else ZeroCost(proxies)
    job = Job(task=task, seed=seed, directory=directory, report=report or ignore)
    return check_scores(with_baselines(given), space, job, reference=reference, metric=metric, n=n).found
