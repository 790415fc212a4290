"""Watching for the collapse of DARTS: the eigenvalue against the exact Hessian, and the rule of RobustDARTS."""

import random

import pytest
import torch
from torch import nn

import nasturtium as nas
from nasturtium.errors import InvalidInputError
from nasturtium.space.lowering import lower
from nasturtium.supernets.collapse import (
    CollapseWatch,
    Curvature,
    dominant_eigenvalue,
    identities,
    identity_options,
    weightless_options,
)
from nasturtium.supernets.relaxation import relax


def test_power_iteration_finds_the_dominant_eigenvalue_of_the_exact_hessian():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (12,), generator=generator)
    out = torch.randn(4, 3, generator=generator, dtype=torch.float64)

    def loss_at(flat):
        p, q = torch.softmax(flat[:3], 0), torch.softmax(flat[3:], 0)
        h = p[0] * torch.tanh(x) + p[1] * x + p[2] * torch.sin(3 * x)
        h = q[0] * h.square() + q[1] * h
        return nn.functional.cross_entropy(4 * h @ out, y)

    start = torch.randn(5, generator=generator, dtype=torch.float64)
    exact = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss_at, start))
    first, second = (nn.Parameter(part.clone()) for part in (start[:3], start[3:]))
    found = dominant_eigenvalue(
        lambda: loss_at(torch.cat([first, second])), [first, second], iterations=500, tolerance=1e-12
    )
    assert found == pytest.approx(exact[exact.abs().argmax()].item(), rel=1e-5)


def test_a_negative_dominant_eigenvalue_keeps_its_sign():
    a = nn.Parameter(torch.tensor([0.3, -0.2]))
    assert dominant_eigenvalue(lambda: a[0] ** 2 - 3 * a[1] ** 2, [a], iterations=200) == pytest.approx(-6, rel=1e-2)
    assert dominant_eigenvalue(lambda: a.sum(), [a]) == 0.0
    with pytest.raises(InvalidInputError, match="at least 1"):
        dominant_eigenvalue(lambda: a.sum(), [a], iterations=0)


@pytest.fixture(scope="module")
def tiny():
    return nas.zoo.darts.space((1, 8, 8), width=4, layers=3, nodes=2, stem="cifar", affine=False)


def test_identities_are_read_from_the_graph(tiny):
    relaxed = relax(tiny)
    options = identity_options(lower(relaxed.space, (1, 8, 8), classes=10))
    skip = nas.zoo.darts.SEARCHED.index("skip_connect")
    assert {name: set(found) for name, found in options.items() if name.startswith("normal")} == {
        f"normal_op_{i}_{j}": {skip} for j in (2, 3) for i in range(j)
    }
    assert set(options) - {f"normal_op_{i}_{j}" for j in (2, 3) for i in range(j)} == {"reduce_op_2_3"}
    genotype = nas.zoo.darts.genotype(tiny.sample(random.Random(0)))
    genes = (("skip_connect", 0), ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 2))
    a = nas.zoo.darts.architecture({**genotype.to_dict(), "normal": genes, "reduce": genes}, tiny)
    assert identities(a, options) == {"normal": (3, 4), "reduce": (1, 1)}


def test_options_without_weights_are_read_from_the_graph(tiny):
    """By hand: the norms of poolings have no weights here; a skip that halves the image has convolutions."""
    relaxed = relax(tiny)
    options = weightless_options(lower(relaxed.space, (1, 8, 8), classes=10))
    pools, known = {"max_pool_3x3", "avg_pool_3x3"}, nas.zoo.darts.SEARCHED
    for name, expected in {"normal_op_0_2": {*pools, "skip_connect"}, "reduce_op_0_2": pools}.items():
        assert {known[i] for i in options[name] if i < len(known)} == expected
    assert len([name for name in options if "_op_" in name]) == 10


def test_the_rule_of_the_eigenvalue(tiny):
    """Measured every 2 epochs: averages of 5 whose middles stand at epochs 6, 8, …; compared over 4 measurements."""
    architectures = [tiny.sample(random.Random(i)) for i in range(40)]
    watch = CollapseWatch()
    curvature = Curvature(watch)
    assert [e for e in range(1, 7) if curvature.is_due(e)] == [2, 4, 6]
    values = [1.0] * 7 + [1.0 + 0.2 * i for i in range(1, 14)]
    for number, value in enumerate(values):
        copied = Curvature(watch)
        copied.load_state_dict(curvature.state_dict())
        curvature = copied
        curvature.add(2 * (number + 1), -value, architectures[number])
        found = curvature.collapse()
        averages = [sum(values[i - 4 : i + 1]) / 5 for i in range(4, number + 1)]
        middle = number - 4 - 2  # of the earlier window, counted in measurements
        expected = len(averages) > 4 and 2 * (middle + 1) >= 10 and averages[-1] / averages[-5] > 1.3
        assert (found is not None) == expected
        if found is not None:
            assert found.epoch == 2 * (middle + 1)
            assert found.decisions == architectures[middle].decisions
            assert found.ratio == pytest.approx(averages[-1] / averages[-5])
            break
    else:
        pytest.fail("the rise was not noticed")


def test_a_rise_that_flattened_is_kept(tiny):
    """Window 1, one measurement back: 1, 1, 2, 2, 2, 5 rises first at epoch 3, from epoch 2."""
    curvature = Curvature(CollapseWatch(every=1, window=1, back=1, first=1))
    for epoch, value in enumerate([1.0, 1.0, 2.0, 2.0, 2.0, 5.0], start=1):
        curvature.add(epoch, value, tiny.sample(random.Random(epoch)))
        found = curvature.collapse()
        assert (found is None) == (epoch < 3)
    assert (found.epoch, found.seen, found.ratio) == (2, 3, 2.0)
    assert found.decisions == tiny.sample(random.Random(2)).decisions
