"""ENAS: a controller that learns, by reinforcement, from children that share their weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from random import Random
from typing import Any

from torch import Tensor

from nasturtium.errors import InvalidInputError
from nasturtium.model import Supernet
from nasturtium.space import Architecture, Space
from nasturtium.supernets.alternation import Batch, Moment, alternate, cosine
from nasturtium.supernets.calibration import calibration_batches
from nasturtium.supernets.enas_controller import SharedController, Skips, Teaching
from nasturtium.supernets.path_step import PathStep, batch_statistics, check_recipe, lowered, require_open
from nasturtium.supernets.ranking import Alone, check_ranking, check_sample, training_settings, without_defaults
from nasturtium.supernets.searcher import Found, Run, SearchResult
from nasturtium.supernets.single_path import measure
from nasturtium.supernets.storage import start_from
from nasturtium.supernets.updates import layout_of
from nasturtium.tasks import Task
from nasturtium.training import Recipe, resolve_device
from nasturtium.training.randomness import derived_seed

MICRO = Recipe(
    learning_rate=0.05, momentum=0.9, weight_decay=1e-4, batch_size=160, warmup=0.0, label_smoothing=0.0, clip=5.0
)
"""Of the shared weights in the authors' micro search."""
MACRO = Recipe(
    learning_rate=0.05, momentum=0.9, weight_decay=2.5e-4, batch_size=128, warmup=0.0, label_smoothing=0.0, clip=5.0
)
"""Of the shared weights in the authors' macro search."""


@dataclass(frozen=True, kw_only=True)
class ENAS:
    """Efficient neural architecture search: in turns, an epoch of shared weights and some steps of the controller.

    1. Shared weights: for each batch of the train images the controller draws a child, and its weights take a step.
    2. Controller: in each of `steps` steps it draws `samples` children, each is rewarded by its accuracy on a batch of
       held-out train images, and the controller takes a step by REINFORCE.

    At last it draws `candidates` children; the best by shared accuracy on the validation split is the result.

    Args:
        epochs: Passes over the train images that the weights see.
        recipe: How the weights are trained; `warmup` and `ema` must be off. Its learning rate is the highest one.
        last_learning_rate: To which the learning rate falls.
        restart: Epochs of the first cosine, after which the rate begins anew; None for one cosine over all epochs.
        restart_factor: By which each cosine is longer than the one before.
        share: Of the train images that the controller learns on; 5,000 of 50,000 in the code.
        steps: Steps of the controller after each epoch.
        samples: Children of each of them.
        teaching: How the controller learns, `Teaching`.
        candidates: Children drawn at the end; 10 in the code.
        sample: Networks, drawn uniformly, that are trained alone, so that the ranking's trust is known; 0 for none.
        alone: How they are trained.

    Notes:
        The defaults are those of the authors' micro search; `ENAS.macro()` has those of the macro search, of which
        the number of skip connections is held at a share.

        Differs from the paper: as the code does, the entropy is added to the reward (so it passes through the baseline
        and has no gradient of its own), the baseline is updated before it is subtracted, the power c of the reward's
        c / (1 - accuracy) on language is not there, and the rate has restarts.
        Differs from the code: the controller is `strategies.learned`' policy, a softmax for each decision, in which
        no attention over earlier nodes or layers chooses inputs and skips, all weights begin uniform in [-0.08, 0.08]
        (0.1 in the code), and one tanh constant holds for all decisions (the code divides it by 2.5 for the operations
        of cells, and gives convolutions a head start by fixed and learned biases). Epsilon of Adam is added after the
        bias correction. The skip penalty compares the probabilities with which skips are drawn (the code takes the
        sigmoid of each logit, though it draws with their softmax), and the macro entropy is the whole distribution's
        (the code sums -p log p of what was drawn). Rewards take the statistics of the batch, as in the code, but no
        dropout or dropped paths. Weight decay acts on the drawn child's convolutions and linear layers (in the code on
        all weights). The learning rate falls step by step (in the code epoch by epoch). The last choice is among
        distinct children by the whole validation split with recalibrated norms (in the code by a batch).

        Cost: an epoch of one child's training, and `steps * samples` forward passes of a batch.

    Reference:
        Pham, Guan, Zoph, Le, Dean (2018), "Efficient Neural Architecture Search via Parameter Sharing",
        arXiv 1802.03268, section 2.2; the authors' code, scripts `cifar10_micro_search.sh`, `cifar10_macro_search.sh`.
    """

    epochs: int = 150
    recipe: Recipe = MICRO
    last_learning_rate: float = 0.0005
    restart: int | None = 10
    restart_factor: int = 2
    share: float = 0.1
    steps: int = 30
    samples: int = 10
    teaching: Teaching = field(default_factory=Teaching)
    candidates: int = 10
    sample: int = 10
    alone: Alone = field(default_factory=Alone)

    def __post_init__(self) -> None:
        for name in ("epochs", "restart_factor", "steps", "samples", "candidates", "restart"):
            value = getattr(self, name)
            if name == "restart" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"`{name}` must be an integer of 1 or more, got {value!r}.")
        check_sample(self.sample)
        if not 0.0 < self.share < 1.0:
            raise InvalidInputError(f"`share` of the train images must be in (0, 1), got {self.share!r}.")
        if self.recipe.warmup:
            raise InvalidInputError(
                f"ENAS' learning rate begins at its highest: give a recipe with warmup=0.0, got {self.recipe.warmup!r}."
            )
        if not 0.0 <= self.last_learning_rate <= self.recipe.peak_learning_rate(self.recipe.batch_size or 64):
            raise InvalidInputError(
                f"`last_learning_rate` must be from 0 to the recipe's learning rate, got {self.last_learning_rate!r}."
            )
        check_recipe(self.recipe)

    @classmethod
    def macro(cls, *, skips: str = "*_skip_*", **changes: Any) -> ENAS:
        """The settings of the authors' macro search.

        Args:
            skips: Pattern of the names of skip connections, as of `zoo.enas_macro`.
            **changes: Other settings than theirs.
        """
        teaching = Teaching(learning_rate=0.001, tanh_constant=1.5, skips=Skips(pattern=skips))
        given: dict[str, Any] = {
            "epochs": 310, "recipe": MACRO, "steps": 50, "samples": 20, "teaching": teaching, **changes
        }  # fmt: skip
        return cls(**given)

    def check(self, space: Space, task: Task) -> None:
        """Raise before anything trains where ENAS does not go with the space or the task.

        Raises:
            IncompatibleError: nothing is open, the space has no supernet, or the skips are not the space's.
        """
        require_open(space, "ENAS")
        SharedController(space, self.teaching, 0)
        lowered(space, task, "ENAS")

    def search(self, space: Space, run: Run) -> SearchResult:
        """Search; see `Searcher`.

        Each record of the history has "loss" and "train_accuracy" of the children that were trained, "learning_rate",
        and of the controller's steps the means "reward", "accuracy", "entropy", "baseline", and "skip_rate".
        """
        require_open(space, "ENAS")
        return _Search(self, space, run).complete()

    def rate(self, epoch: float, peak: float) -> float:
        """Learning rate after so many epochs.

        Reference:
            Loshchilov, Hutter (2017), "SGDR", arXiv 1608.03983, equation 5.
        """
        length = float(self.epochs if self.restart is None else self.restart)
        while self.restart is not None and epoch >= length:
            epoch -= length
            length *= self.restart_factor
        return cosine(epoch / length, peak, self.last_learning_rate)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the name of the method and its settings."""
        values = {"name": "enas", **asdict(self), "recipe": self.recipe.to_dict(), "alone": self.alone.to_dict()}
        return without_defaults(values)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ENAS:
        """Inverse of `to_dict`."""
        values = {key: value for key, value in data.items() if key != "name"}
        if "recipe" in values:
            values["recipe"] = Recipe.from_dict(values["recipe"])
        if "alone" in values:
            values["alone"] = Alone.from_dict(values["alone"])
        if "teaching" in values:
            teaching = dict(values["teaching"])
            skips = teaching.get("skips")
            values["teaching"] = Teaching(**{**teaching, "skips": None if skips is None else Skips(**skips)})
        return cls(**values)


class _Search:
    """One search in progress."""

    def __init__(self, method: ENAS, space: Space, run: Run) -> None:
        self.method, self.space, self.run = method, space, run
        self.device = resolve_device(run.device)
        self.controller = SharedController(space, method.teaching, derived_seed(run.seed, 1))
        self.graph = lowered(space, run.task, "ENAS")
        self.supernet = Supernet(self.graph, seed=derived_seed(run.seed, 2))
        start_from(self.supernet, run.initial)
        self.supernet.to(self.device)
        self.batch = method.recipe.batch_for(len(run.task.split("train")))
        self.parted = run.parted(self.device)
        self.train = PathStep(self.supernet, method.recipe, self.batch, run.task, self.device, self.parted)

    def complete(self) -> SearchResult:
        """Train, then choose."""
        method, run = self.method, self.run
        alternated = alternate(
            self.step,
            {"supernet": self.supernet, "optimizer": self.train.optimizer, "controller": self.controller},
            run.task,
            epochs=method.epochs,
            batch=self.batch,
            seed=run.seed,
            facts={"method": training_settings(method.to_dict()), "space": self.space.fingerprint},
            device=self.device,
            directory=run.directory,
            share=method.share,
            augmentation=method.recipe.augmentation(run.task.augmentation),
            layout=layout_of(self.graph, method.recipe.memory_format, self.device),
            after_epoch=self.teach,
            report=run.report,
            parted=self.parted,
        )
        begin = time.perf_counter()
        batches = calibration_batches(run.task, seed=derived_seed(run.seed, 3), device=self.device)
        found = self.choose(batches)
        seconds = alternated.seconds + time.perf_counter() - begin
        checked = check_ranking(
            self.supernet, self.space, run, sample=method.sample, alone=method.alone, batches=batches,
            facts=method.to_dict(), epoch=method.epochs,
        )  # fmt: skip
        return SearchResult(
            found=checked.marked(found), history=alternated.history, seconds=seconds, steps=alternated.steps,
            notes=(checked.note, *self.notes()), trust=checked.trust,
            state={k: v.detach().clone() for k, v in self.supernet.state_dict().items()},
        )  # fmt: skip

    def step(self, batch: Batch, held_out: Iterator[Batch], moment: Moment) -> dict[str, Any]:
        """Draw a child and train it on a batch."""
        del held_out
        child = self.controller.draw(Random(moment.seed), 1)[0]
        self.supernet.set(child)
        rate = self.method.rate(moment.epoch + moment.step / moment.steps, self.peak)
        loss, accuracy = self.train(*batch, rate, moment.seed)
        return {"loss": loss, "train_accuracy": accuracy, "learning_rate": rate}

    @property
    def peak(self) -> float:
        """The highest learning rate."""
        return self.method.recipe.peak_learning_rate(self.batch)

    def teach(self, held_out: Iterator[Batch], moment: Moment) -> dict[str, float]:
        """Train the controller; means over its steps. The processes share out the children, not their batches."""
        rng = Random(moment.seed)
        team, samples = self.parted.team, self.method.samples
        records = []
        with batch_statistics(self.supernet):
            for _ in range(self.method.steps):
                children = self.controller.draw(rng, samples)
                rewards = team.shared_out(partial(self.reward, child, next(held_out)) for child in children)
                records.append(self.controller.learn(children, rewards))
        if team.size > 1:  # or unlike machines would drift apart
            self.controller.load_state_dict(team.of_first(self.controller.state_dict))
        return {name: _mean([r[name] for r in records]) for name in records[0]}

    def reward(self, child: Architecture, batch: Batch) -> float:
        """Accuracy of a child on a batch."""
        self.supernet.set(child)
        return self.train.accuracy(*batch)

    def choose(self, batches: Sequence[Tensor]) -> tuple[Found, ...]:
        """Distinct children of the controller, best first."""
        task, seed = self.run.task, derived_seed(self.run.seed, 3)
        drawn = self.controller.draw(Random(seed), self.method.candidates)
        children = list(dict.fromkeys(drawn))
        found = []
        for child, log_probability in zip(children, self.controller.log_probabilities(children), strict=True):
            evaluation = measure(self.supernet, child, task, batches=batches)
            evidence = {
                "shared_accuracy": evaluation.accuracy, "shared_loss": evaluation.loss,
                "probability": math.exp(log_probability),
            }  # fmt: skip
            found.append(Found(architecture=child, evidence=evidence))
        return tuple(sorted(found, key=lambda f: -f.evidence["shared_accuracy"]))

    def notes(self) -> tuple[str, ...]:
        """What a reader of the result should know."""
        method = self.method
        if method.restart is None:
            return ()
        done, length = 0, method.restart
        while done + length <= method.epochs:
            done, length = done + length, length * method.restart_factor
        if done == method.epochs:
            return ()
        return (
            f"The learning rate was in the middle of a cosine when the search ended: {method.epochs} epochs are not "
            f"whole cosines of {method.restart} epochs and {method.restart_factor} times as many each, so the shared "
            "weights are less settled than they could be. Give restart=None for one cosine.",
        )


def _mean(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan
