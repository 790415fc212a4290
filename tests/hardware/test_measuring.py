"""Measuring: how many processes, what is stored and warned of; real fresh processes once."""

import itertools

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.hardware import Plan, agent, measuring, runtimes

BLOCK = nas.Sequential(nas.Conv(4, stride=2), nas.Classifier())
GRAPH = nas.trace(BLOCK, (1, 8, 8), classes=3)
CPU = nas.hardware.device("cpu")


def result(network_ms, reference_ms=1.0, *, switches=0, wall=1.0, settled=True, networks=1):
    def block(ms):
        return [(int(1e6 * ms * wall), int(1e6 * ms), switches)] * 3

    one = {"network": [block(network_ms)] * 4, "reference": [block(reference_ms)] * 5, "settled": settled}
    return {
        "machine": "m", "cores": [0], "load": 1.0, "versions": {"onnxruntime": "1"}, "results": [one] * networks,
    }  # fmt: skip


@pytest.fixture
def fake(monkeypatch):
    """Replace the processes by given results; returns the jobs that were run."""

    def install(results):
        jobs, source = [], iter(results)

        def run(command, job, **_):
            jobs.append(job)
            return next(source)

        monkeypatch.setattr(agent, "fresh_process", run)
        monkeypatch.setattr(runtimes, "prepare", lambda network, device, path, inputs=(): path)
        monkeypatch.setattr(runtimes, "prepare_reference", lambda device, folder: folder / "reference")
        return jobs

    return install


def test_it_stops_when_the_interval_is_narrow(fake):
    jobs = fake(itertools.repeat(result(2.0)))
    found = nas.hardware.measure(BLOCK, shape=(1, 8, 8), context={"classes": 3})
    assert len(jobs) == 6
    assert found.seconds == pytest.approx(2e-3)
    assert found.is_precise
    assert found.warnings == ()
    assert (found.conditions.clock, found.conditions.machine, found.conditions.reference) == ("processor", "m", None)
    assert found.samples == (12,) * 6


def test_a_precision_that_is_not_reached_is_said(fake):
    jobs = fake(result(2.0 + (i * 7 % 5) / 5) for i in itertools.count())
    found = nas.hardware.measure(GRAPH, plan=Plan(processes=(6, 9)))
    assert len(jobs) == 9
    assert not found.is_precise
    assert "precision of 2 % was not reached: after 9 processes" in found.warnings[0]


def test_what_slows_both_is_taken_out_and_a_known_reference_sets_the_level(fake):
    speeds = (1.0, 1.5, 2.0, 1.2, 1.1, 1.7)
    fake([result(2.0 * s, 0.5 * s) for s in speeds])
    found = nas.hardware.measure(GRAPH, plan=Plan(precision=None, processes=(6, 6), reference=0.5e-3))
    assert found.seconds == pytest.approx(2e-3)
    assert found.half_width < 1e-6
    assert any("+35 %" in warning for warning in found.warnings)  # the median speed is 1.35
    assert found.conditions.observed_reference == pytest.approx(0.675e-3)


def test_a_wall_clock_that_says_something_else_is_reported(fake):
    fake(itertools.repeat(result(2.0, wall=1.05)))
    assert nas.hardware.measure(GRAPH, plan=Plan(precision=None)).warnings == ()
    fake(itertools.repeat(result(2.0, wall=1.5)))
    (warning,) = nas.hardware.measure(GRAPH, plan=Plan(precision=None)).warnings
    assert "by the wall clock the median is 3 ms, +50 %" in warning


def test_what_a_process_says_of_its_kernels_is_a_warning(fake):
    said = result(2.0)
    said["results"][0]["note"] = "The network was computed by other kernels."
    fake(itertools.repeat(said))
    assert nas.hardware.measure(GRAPH, plan=Plan(precision=None)).warnings == (said["results"][0]["note"],)


def test_a_busy_machine_drift_and_unsettled_times_are_said(fake):
    fake(result(2.0 + 0.1 * i, switches=1, wall=3.0, settled=i > 0) for i in itertools.count())
    found = nas.hardware.measure(GRAPH, plan=Plan(precision=None, processes=(8, 8)))
    text = "\n".join(found.warnings)
    assert "network drifted by +" in text
    assert "in 100 % of the runs the system took the core away" in text
    assert "In 1 of 8 processes" in text
    assert found.conditions.wall == pytest.approx(3 * 2.35e-3, rel=0.01)
    assert found.seconds == pytest.approx(2.35e-3, rel=0.01)


def test_wall_clock_counts_where_several_threads_run():
    assert measuring.clock_of(CPU.replace(threads=2)) == "wall"
    assert measuring.clock_of(CPU) == "processor"
    assert measuring.clock_of(nas.hardware.device("cuda")) == "wall"


@pytest.mark.parametrize(
    "fields",
    [{"processes": (2, 5)}, {"processes": (6, 5)}, {"precision": 0.0}, {"precision": 2.0}, {"seconds": 0.0},
     {"turns": 0}, {"confidence": 95.0}, {"reference": -1.0}],
)  # fmt: skip
def test_plans_that_cannot_be_are_refused(fields):
    with pytest.raises(InvalidInputError):
        Plan(**fields)


def test_what_cannot_be_measured_is_refused_before_anything_runs():
    with pytest.raises(InvalidInputError, match="of a given `shape`"):
        nas.hardware.measure(BLOCK)
    with pytest.raises(InvalidInputError, match="Nothing is timed"):
        nas.hardware.measure(GRAPH, "mcu-320k")
    assert nas.hardware.measure_all([]) == []


def test_a_process_that_fails_says_what_it_wrote(monkeypatch, tmp_path):
    monkeypatch.setattr(runtimes, "prepare", lambda network, device, path, inputs=(): tmp_path / "absent.onnx")
    monkeypatch.setattr(runtimes, "prepare_reference", lambda device, folder: tmp_path / "absent.onnx")
    with pytest.raises(TrialError, match=r"(?s)Measuring on 'cpu' failed.*absent.onnx"):
        nas.hardware.measure(GRAPH)


def test_two_networks_in_real_processes_the_larger_takes_longer():
    large = nas.trace(nas.Sequential(nas.Conv(32), nas.Conv(64), nas.Classifier()), (3, 48, 48), classes=3)
    plan = Plan(precision=None, processes=(3, 3), seconds=0.02, turns=3)
    small, big = nas.hardware.measure_all([GRAPH, large], plan=plan)
    assert small.seconds < big.seconds  # 40 million MACs against 600
    assert len(small.processes) == 3
    assert dict(small.conditions.versions)["onnxruntime"]
    assert nas.hardware.Measurement.from_dict(big.to_dict()) == big


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu-int8", "cpu-eager", "cpu-compiled"])
def test_every_runtime_of_this_cpu_measures_for_real(name):
    found = nas.hardware.measure(GRAPH, name, plan=Plan(precision=None, processes=(3, 3), seconds=0.02, turns=3))
    assert 0 < found.low <= found.seconds <= found.high < 1
    assert found.device.name == name


def test_a_module_is_measured_on_given_inputs(fake):
    fake(itertools.repeat(result(2.0)))
    assert nas.hardware.measure(torch.nn.Identity(), inputs=(torch.zeros(1, 1),)).seconds == pytest.approx(2e-3)
