"""Energy from counters: a fake powercap folder and hand-made meters."""

import json
import os
import sys
import types

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidInputError, MissingExtraError
from nasturtium.hardware import Energy, energy

CPU = nas.hardware.device("cpu")


def package(root, name, used, most=1_000_000, domain="package-0"):
    folder = root / name
    folder.mkdir()
    (folder / "name").write_text(f"{domain}\n")
    (folder / "energy_uj").write_text(f"{used}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder / "energy_uj"


def test_packages_are_summed_without_their_parts_and_over_their_end(tmp_path):
    first = package(tmp_path, "intel-rapl:0", 900_000)
    package(tmp_path, "intel-rapl:0:0", 5, domain="core")
    package(tmp_path, "intel-rapl:2", 7, domain="psys")  # the whole board: it holds the packages
    second = package(tmp_path, "intel-rapl:1", 10, domain="package-1")
    meter = energy.Rapl(tmp_path)
    assert meter.joules() == 0.0
    first.write_text("100000")  # ran over its end: 1,000,001 values from 0
    second.write_text("500010")
    assert meter.joules() == pytest.approx((200_001 + 500_000) / 1e6)
    assert "2 processor package" in meter.source


def test_a_machine_without_counters_says_so(tmp_path):
    with pytest.raises(InvalidInputError, match="exposes no energy counter"):
        energy.Rapl(tmp_path)
    package(tmp_path, "intel-rapl:0", 5, domain="psys")
    with pytest.raises(InvalidInputError, match="exposes no energy counter"):
        energy.Rapl(tmp_path)


def test_devices_that_have_no_meter_say_why(monkeypatch):
    with pytest.raises(InvalidInputError, match="measure on the board"):
        energy.meter(nas.hardware.device("mcu-256k"))
    with pytest.raises(InvalidInputError, match="latency, not energy"):
        energy.meter(nas.hardware.Device(name="a", address="http://a:1"))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingExtraError, match="nvidia-ml-py"):
        energy.meter(nas.hardware.device("cuda"))


def test_nvml_counts_millijoules(monkeypatch):
    class NVMLError(Exception):
        pass

    fake = types.ModuleType("pynvml")
    fake.NVMLError = NVMLError
    fake.nvmlInit = lambda: None
    fake.nvmlDeviceGetHandleByUUID = {"GPU-a": 7, "GPU-b": 1}.__getitem__
    uuids = ["a", "GPU-b"]  # PyTorch's numbers 0 and 1; NVML may number them otherwise
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: types.SimpleNamespace(uuid=uuids[i]))
    fake.nvmlDeviceGetTotalEnergyConsumption = lambda handle: 2500 + handle
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    assert energy.meter(nas.hardware.device("cuda").replace(target="cuda:1")).joules() == pytest.approx(2.501)
    assert energy.Nvml(0).joules() == pytest.approx(2.507)
    with pytest.raises(InvalidInputError, match="no GPU 2: PyTorch finds 2"):
        energy.Nvml(2)

    def refuse(handle):
        raise NVMLError("not supported")

    fake.nvmlDeviceGetTotalEnergyConsumption = refuse
    with pytest.raises(InvalidInputError, match="no energy counter through NVML: not supported"):
        energy.Nvml(0)


def test_what_the_machine_takes_at_rest_is_taken_off():
    class World:
        """10 W at rest; an inference takes 0.1 s and 3 J more."""

        source = "a made world"
        now = used = 0.0

        def joules(self):
            return self.used

        def clock(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds
            self.used += 10 * seconds

        def run(self):
            self.sleep(0.1)
            self.used += 3.0

    world = World()
    found = energy.repeated(
        world.run, world, CPU, seconds=1.0, repetitions=4, clock=world.clock, sleep=world.sleep
    )  # fmt: skip
    assert found.joules == pytest.approx(3.0)
    assert found.gross == pytest.approx(4.0)
    assert found.idle_watts == pytest.approx(10.0)
    assert found.seconds == pytest.approx(0.1)
    assert found.low <= found.joules <= found.high
    assert Energy.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(InvalidInputError, match="version 3"):
        Energy.from_dict({**found.to_dict(), "version": 3})


@pytest.mark.parametrize("name", ["cpu", "cpu-eager"])
def test_an_energy_is_measured_on_as_many_threads_as_the_device_has(monkeypatch, name):
    class Counter:
        source = "a made counter"
        used = 0.0

        def joules(self):
            self.used += 1.0
            return self.used

    seen = []

    def repeated(run, counter, device, **given):
        run()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        seen.append((torch.get_num_threads(), cores, device.name))

    monkeypatch.setattr(energy, "meter", lambda device: Counter())
    monkeypatch.setattr(energy, "repeated", repeated)
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    graph = nas.trace(nas.Sequential(nas.Conv(4, stride=2), nas.Classifier()), (1, 8, 8), classes=3)
    energy.measure_energy(graph, name, seconds=0.01, repetitions=3)
    assert seen == [(1, 1, name)]
    assert before is None or os.sched_getaffinity(0) == before
