"""DARTS and its descendants on a small mixture: resumed runs, what is derived, the terms of the loss."""

import json

import pytest
import torch

import nasturtium as nas
from nasturtium.blocks.darts_cell import Pool, SepConv, Skip
from nasturtium.errors import IncompatibleError, InvalidInputError, TrialError
from nasturtium.study import codec
from nasturtium.supernets.alternation import Moment, halves
from nasturtium.supernets.collapse import CollapseWatch
from nasturtium.supernets.darts import DARTS
from nasturtium.supernets.darts_search import DARTSSearch
from nasturtium.supernets.searcher import Run, Searcher
from tests.supernets.mixtures import Sum, network, space, task

SMALL = {"batch_size": 12, "epochs": 3}
VARIANTS = {
    "first": DARTS(**SMALL, watch=CollapseWatch(every=1, iterations=3)),
    "second": DARTS(**SMALL, order=2),
    "cost": DARTS(**SMALL, cost="macs", cost_weight=1e-4),
    "pc": DARTS.pc(**SMALL, parts=2, frozen=1),
    "fair": DARTS.fair(**SMALL),
    "gdas": DARTS.gdas(**SMALL),
    "minus": DARTS.minus(**SMALL),
    "bfloat16": DARTS(**SMALL, precision="bfloat16"),
}


class KilledError(Exception):
    pass


def without_time(history):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_killed_search_goes_on_to_the_same_bits(name, tmp_path):
    method, data, searched = VARIANTS[name], task(), space()

    def kill(record):
        if record["epoch"] == 2:
            raise KilledError

    whole = method.search(searched, Run(task=data, seed=3))
    torch.manual_seed(99)
    with pytest.raises(KilledError):
        method.search(searched, Run(task=data, seed=3, directory=tmp_path, report=kill))
    seen = []
    again = method.search(searched, Run(task=data, seed=3, directory=tmp_path, report=seen.append))
    assert [record["epoch"] for record in seen] == [3.0]
    assert without_time(again.history) == without_time(whole.history)
    assert again.found == whole.found
    assert again.notes == whole.notes
    assert again.state.keys() == whole.state.keys()
    assert all(torch.equal(again.state[k], whole.state[k]) for k in whole.state)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    # what is derived is an ordinary architecture of the given space
    found = again.found[0].architecture
    assert found in searched
    model = nas.build(nas.trace(found, data.input_shape, classes=data.classes), seed=0)
    assert model(torch.zeros(2, *data.input_shape)).shape == (2, 3)
    assert again.steps == 3 * 2
    assert isinstance(method, Searcher)
    json.dumps(method.to_dict())


def test_bfloat16_is_rougher_and_no_more():
    searches = {
        p: DARTS(**SMALL, precision=p).search(space(), Run(task=task(), seed=3)) for p in ("float32", "bfloat16")
    }
    fine, rough = ([record["loss"] for record in search.history] for search in searches.values())
    assert rough != fine
    assert rough == pytest.approx(fine, abs=0.1)
    assert all(tensor.dtype != torch.bfloat16 for tensor in searches["bfloat16"].state.values())


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    def kill(record):
        raise KilledError

    with pytest.raises(KilledError):
        DARTS(**SMALL).search(space(), Run(task=task(), seed=0, directory=tmp_path, report=kill))
    with pytest.raises(InvalidInputError, match="another network, recipe"):
        DARTS(**SMALL, momentum=0.5).search(space(), Run(task=task(), seed=0, directory=tmp_path))


def stop_now(record):
    raise KilledError


def test_dartsminus_ends_the_same_when_killed_after_its_last_checkpoint(tmp_path):
    method, data = DARTS.minus(batch_size=12, epochs=1), task()
    whole = method.search(space(), Run(task=data, seed=3))
    with pytest.raises(KilledError):
        method.search(space(), Run(task=data, seed=3, directory=tmp_path, report=stop_now))
    again = method.search(space(), Run(task=data, seed=3, directory=tmp_path, report=stop_now))
    assert again.found == whole.found
    assert without_time(again.history) == without_time(whole.history)
    assert all(torch.equal(again.state[k], whole.state[k]) for k in whole.state)


def test_a_stopped_dartsminus_is_evaluated_where_it_stopped(tmp_path):
    """Stopped after 2 of 4 epochs: shortcuts have weight 0.5 whether the last epoch ran just now or not."""
    watch = CollapseWatch(every=1, window=1, back=1, ratio=1e-9, first=1, stop=True, iterations=2)
    method, seen = DARTS.minus(batch_size=12, epochs=4, watch=watch), []

    def kill(record):
        if record["epoch"] == 2:
            raise KilledError

    with pytest.raises(KilledError):
        method.search(space(), Run(task=task(), seed=3, directory=tmp_path, report=kill))
    search = DARTSSearch(method, space(), Run(task=task(), seed=3, directory=tmp_path, report=seen.append))
    again = search.complete()
    assert (seen, len(again.history), search.gate.coefficient) == ([], 2, 0.5)
    whole = method.search(space(), Run(task=task(), seed=3))
    assert again.found == whole.found
    assert again.notes == whole.notes


def test_without_shortcuts_their_none_has_all_the_weight():
    search = DARTSSearch(DARTS.minus(**SMALL), space(), Run(task=task(), seed=0))
    name = search.relaxation.shortcuts[0]
    for progress, weights in ((0.0, [1.0, 0.0]), (0.25, [0.75, 0.0]), (1.0, [0.0, 1.0])):
        search.move_to(progress)
        assert search.gate.weights(name, 2) == weights


def test_settings_come_back_from_json():
    methods = [*VARIANTS.values(), DARTS(watch={"every": 0, "ratio": 2.0}, temperature=[5.0, 1.0])]
    assert methods[-1].watch == CollapseWatch(every=0, ratio=2.0)
    for method in methods:
        assert codec.restore(codec.describe(method, "searcher"), "searcher") == method
    with pytest.raises(InvalidInputError, match=r"'momentun'. Did you mean 'momentum'"):
        DARTS.from_dict({"name": "darts", "momentun": 0.5})
    with pytest.raises(InvalidInputError, match="is a function"):
        DARTS.from_dict(DARTS(cost=cost_of(1.0), cost_weight=1.0).to_dict())


def cost_of(scale):
    return lambda operation, *shapes: scale


def test_a_checkpoint_of_another_space_or_cost_is_refused(tmp_path):
    method = DARTS(**SMALL, cost=cost_of(1.0), cost_weight=1e-3)
    with pytest.raises(KilledError):
        method.search(space(), Run(task=task(), seed=0, directory=tmp_path, report=stop_now))
    other = network(Sum(nas.subset([max_edge(f"op_{i}") for i in range(3)], 2, name="inputs")))  # same weights
    with pytest.raises(InvalidInputError, match="another network, recipe"):
        method.search(other, Run(task=task(), seed=0, directory=tmp_path))
    changed = DARTS(**SMALL, cost=cost_of(2.0), cost_weight=1e-3)
    with pytest.raises(InvalidInputError, match="another network, recipe"):
        changed.search(space(), Run(task=task(), seed=0, directory=tmp_path))
    same = DARTS(**SMALL, cost=cost_of(1.0), cost_weight=1e-3)
    assert len(same.search(space(), Run(task=task(), seed=0, directory=tmp_path)).history) == 3


def max_edge(name):
    return nas.one_of(Skip(affine=False), Pool("max", norm=True), SepConv(3, affine=False), name=name)


def test_a_watch_changes_nothing_but_what_is_told():
    plain = DARTS(**SMALL).search(space(), Run(task=task(), seed=0))
    watched = DARTS(**SMALL, watch={"every": 1, "iterations": 2}).search(space(), Run(task=task(), seed=0))
    assert "eigenvalue" in watched.history[0]
    assert any("running_mean" in name for name in plain.state)
    assert all(torch.equal(watched.state[name], tensor) for name, tensor in plain.state.items())
    assert watched.found == plain.found


def test_it_takes_the_costly_operation_only_where_cost_is_free():
    """With a large l2 the gradient of the architecture is that of the cost: the convolution's logit falls."""
    dear = DARTS(**SMALL, cost="macs", cost_weight=1.0, architecture_learning_rate=0.1)
    result = dear.search(space(), Run(task=task(), seed=0))
    costs = [record["expected_cost"] for record in result.history]
    assert costs[0] > costs[1] > costs[2]
    assert 2 not in [v for k, v in result.found[0].architecture.decisions.items() if k != "inputs"]


def test_the_loss_is_the_sum_of_its_terms():
    method = DARTS(**SMALL, cost="macs", cost_weight=2e-3)
    search = DARTSSearch(method, space(), Run(task=task(), seed=0))
    assert search.cost is not None
    expected = 2e-3 * search.cost(search.relaxation.distribution(search.gate.probabilities()))
    assert search.penalty().item() == pytest.approx(expected.item())
    found = torch.autograd.grad(search.penalty(), search.logits)
    for got, want in zip(found, torch.autograd.grad(expected, search.logits), strict=True):
        torch.testing.assert_close(got, want)
    fair = DARTSSearch(DARTS.fair(**SMALL), space(), Run(task=task(), seed=0))
    values = torch.sigmoid(torch.cat(list(fair.logits)))
    assert fair.penalty().item() == pytest.approx(-10 * ((values - 0.5) ** 2).mean().item())


def test_one_step_is_the_authors():
    """Adam on the architecture with its decay, then SGD with the decay in the gradient, clipped before."""
    method = DARTS(batch_size=24, epochs=1, architecture_learning_rate=1e-2)
    search = DARTSSearch(method, space(), Run(task=task(), seed=0))
    reference = DARTSSearch(method, space(), Run(task=task(), seed=0))
    generator = torch.Generator().manual_seed(0)
    x, u = (torch.randn(24, 1, 8, 8, generator=generator) for _ in range(2))
    y = z = torch.arange(24) % 3
    moment = Moment(epoch=0, step=0, epochs=1, steps=1, seed=0)
    search.net.train()
    reference.net.train()
    search.step((x, y), iter([(u, z)]), moment)
    loss = torch.nn.functional.cross_entropy(reference.net(u), z)
    gradients = torch.autograd.grad(loss, reference.logits)
    for logits, gradient, after in zip(reference.logits, gradients, search.logits, strict=True):
        total = gradient + 1e-3 * logits  # Adam's first step is the sign, softened by 1e-8
        expected = logits - 1e-2 * total / (total.abs() + 1e-8)
        torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            logits.copy_(after)
    loss = torch.nn.functional.cross_entropy(reference.net(x), y)
    gradients = torch.autograd.grad(loss, reference.weights)
    norm = torch.sqrt(sum(g.square().sum() for g in gradients))
    scale = min(1.0, 5.0 / (norm.item() + 1e-6))
    for weight, gradient, after in zip(reference.weights, gradients, search.weights, strict=True):
        torch.testing.assert_close(after, weight - 0.025 * (scale * gradient + 3e-4 * weight), rtol=1e-4, atol=1e-6)


def test_a_collapse_ends_the_search_with_the_earlier_architecture():
    """A rise over a ratio near 0 is noticed at once: window 1, one measurement back."""
    watch = CollapseWatch(every=1, window=1, back=1, ratio=1e-9, first=1, stop=True, iterations=3, identities=0.01)
    result = DARTS(batch_size=12, epochs=6, watch=watch).search(space(), Run(task=task(), seed=0))
    assert len(result.history) == 2
    assert result.found[0].evidence == {"epoch": 1.0}
    assert len(result.found) == 2
    assert "rose" in result.notes[0]
    assert "stopped" in result.notes[0]


def test_impossible_pairs_are_refused_before_anything_trains():
    with pytest.raises(IncompatibleError, match="change numbers"):
        DARTS().check(network(nas.Conv(nas.one_of(4, 8))), task())
    with pytest.raises(IncompatibleError, match="no subset"):
        DARTS.pc().check(nas.zoo.nasbench201.space(cells=1), task())
    with pytest.raises(IncompatibleError, match="multiple of 3"):
        DARTS.pc(parts=3).check(space(), task())
    DARTS().check(space(), task())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"epochs": 0}, "epochs"),
        ({"order": 3}, "order"),
        ({"gate": "hard"}, "gate"),
        ({"gate": "gumbel", "order": 2}, "draws anew"),
        ({"zero_one": 1.0}, "sigmoid"),
        ({"cost_weight": 1.0}, "needs a `cost`"),
        ({"clip": 0.0}, "clip"),
        ({"share": 1.0}, "share"),
        ({"momentum": 1.0}, "momentum"),
        ({"temperature": (1.0, 0.0)}, "temperature"),
        ({"temperature": 1.0}, "temperature"),
        ({"watch": True}, "watch"),
        ({"watch": {"evry": 1}}, "evry"),
        ({"gate": "gumbel", "watch": {"every": 1}}, "draws anew"),
    ],
)
def test_settings_are_checked(settings, why):
    with pytest.raises(InvalidInputError, match=why):
        DARTS(**settings)


def test_divergence_is_a_failed_trial():
    with pytest.raises(TrialError, match="diverged") as caught:
        DARTS(batch_size=12, epochs=3, learning_rate=1e30, clip=1e30).search(space(), Run(task=task(), seed=0))
    assert caught.value.kind == "diverged"


def test_the_halves_are_stratified_and_disjoint():
    labels = torch.randint(0, 4, (101,), generator=torch.Generator().manual_seed(0)).numpy()
    for share in (0.5, 0.3):
        first, second = halves(labels, share=share, seed=1)
        assert sorted([*first, *second]) == list(range(101))
        for kind in range(4):
            assert abs((labels[second] == kind).sum() - share * (labels == kind).sum()) < 1.5
    assert not (halves(labels, seed=1)[0] == halves(labels, seed=2)[0]).all()
    with pytest.raises(InvalidInputError, match="in \\(0, 1\\)"):
        halves(labels, share=1.0, seed=0)


def test_settings_that_came_later_leave_older_studies_as_they_are() -> None:
    space = nas.Space(nas.Sequential(nas.one_of(nas.Identity(), nas.Conv(4)), nas.Classifier()))
    watched = DARTS(watch=CollapseWatch())
    assert "recompute" not in watched.to_dict()
    assert "weightless" not in watched.to_dict()["watch"]
    saving = DARTS(recompute=True, watch=CollapseWatch(weightless=0.5))
    assert DARTS.from_dict(saving.to_dict()) == saving
    assert DARTS(recompute=True).facts(space) == DARTS().facts(space)  # the checkpoint of a search that lacked memory
