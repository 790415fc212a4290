"""Searches under limits of devices: the model, the finalists that are measured, and what is said of them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path

import device_fakes as devices
import pytest
import study_fakes as fakes

import nasturtium as nas
from nasturtium.cli import main
from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.hardware import energy, measuring
from nasturtium.study import events, on_device
from nasturtium.study.evidence import CORRECTED, MEASURED, STEPPED, Evidence
from nasturtium.study.store import Store
from nasturtium.trial import Constraint

NAME = "latency(cpu)"
SPACE = fakes.space(largest=4)


@pytest.fixture(scope="module")
def table() -> nas.hardware.LatencyTable:
    return devices.table(SPACE)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., devices.Clock]:
    def install(factor: float = 1.0, spread: float = devices.SPREAD) -> devices.Clock:
        made = devices.Clock(factor, spread)
        monkeypatch.setattr(measuring, "measure_all", made)
        return made

    return install


@pytest.fixture
def searched(run, table) -> Callable[..., nas.Study]:
    """A search by accuracy within a latency that about half of the space keeps to, by the table."""

    def search(**options) -> nas.Study:
        arguments = {
            "space": SPACE, "minimize": (), "constraints": [nas.latency("cpu") <= limit(table)], "trials": 16,
            "latency": {"cpu": table}, "strategy": nas.strategies.Random(), "fake": {"epochs": 1},
            "verify": nas.study.Verify(finalists=6),
        } | options  # fmt: skip
        return run(**arguments)

    return search


def limit(table: nas.hardware.LatencyTable) -> float:
    values = sorted(table.predict(graph_of(a)).seconds for a in SPACE.enumerate())
    return (values[len(values) // 2] + values[len(values) // 2 + 1]) / 2


def graph_of(architecture: nas.Architecture) -> nas.Graph:
    return nas.trace(architecture, devices.INPUTS, **devices.CONTEXT)


def log(study: nas.Study, kind: str) -> list[dict]:
    store = Store.open(study.location)
    try:
        return [detail for _, found, detail in store.events() if found == kind]
    finally:
        store.close()


def test_what_misses_when_measured_is_never_reported_as_meeting_the_limit(searched, table, clock) -> None:
    real = clock(1.5)  # everything takes longer than the table says
    most = limit(table)
    study = searched()
    assert 0 < real.measured <= 12
    for member in study.finalists:
        seconds = devices.truth(graph_of(member.architecture), 1.5)
        evidence = member.evidence[NAME]
        assert member.metrics[NAME] == evidence.measurement.seconds == pytest.approx(seconds)
        assert evidence.predicted is not None
        expected = "met" if seconds * 1.01 <= most else "missed" if seconds * 0.99 > most else "not shown"
        assert member.verdict(study.constraints[0]) == expected
    assert any(m.verdict(study.constraints[0]) == "missed" for m in study.finalists)
    for member in (*study.front, study.best, *study.feasible()):
        assert devices.truth(graph_of(member.architecture), 1.5) <= most
        assert member.verdict(study.constraints[0]) == "met"
    assert [step["trials"] for step in log(study, STEPPED)] == [8, len(study.trials)]
    assert log(study, CORRECTED)  # and the search went on with a corrected model
    assert sum("finalists were measured" in note for note in study.notes) == 1
    later = [m for m in study.members() if m.number >= 8 and not m.evidence]
    off = [abs(m.metrics[NAME] / devices.truth(graph_of(m.architecture), 1.5) - 1) for m in later]
    assert sum(off) / len(off) < 0.25  # the table was off by a third
    json.dumps([study.to_table("search"), study.facts])


def test_a_search_that_was_stopped_while_measuring_goes_on_as_if_nothing_had_happened(
    searched, clock, tmp_path
) -> None:
    clock(1.15)
    whole = searched(name="whole.db", minimize="macs")
    stopping = clock(1.15)
    one = stopping.one

    def interrupted(graph, device):
        if stopping.calls == 2:
            raise KeyboardInterrupt
        return one(graph, device)

    stopping.one = interrupted
    with pytest.raises(nas.study.StudyInterrupted):
        searched(name="stopped.db", minimize="macs")
    clock(1.15)
    resumed = nas.resume(tmp_path / "stopped.db", space=SPACE)

    def plain(study: nas.Study) -> list:
        measured = [(d["role"], d["number"], d["predicted"], d["measurement"]["seconds"]) for d in log(study, MEASURED)]
        return [[(t.architecture.key, dict(t.metrics)) for t in study.trials], measured]

    assert plain(resumed) == plain(whole)
    assert {m.number for m in resumed.front} == {m.number for m in whole.front}


def test_a_kill_between_two_corrections_loses_none(run, table, clock, tmp_path, monkeypatch) -> None:
    clock(1.5)
    other = nas.hardware.Device(name="other", runtime="eager")
    options = {
        "space": SPACE, "minimize": [nas.latency("cpu"), nas.latency(other)], "trials": 4, "fake": {"epochs": 1},
        "latency": {"cpu": table, other: dataclasses.replace(table, device=other)},
        "strategy": nas.strategies.Random(), "verify": nas.study.Verify(finalists=2, rounds=1),
    }  # fmt: skip
    whole = run("whole.db", **options)
    add = Store.add_event

    def killed(store: Store, kind: str, detail=None) -> None:
        add(store, kind, detail)
        if kind == CORRECTED:
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "add_event", killed)
    with pytest.raises(nas.study.StudyInterrupted):
        run("stopped.db", **options)
    monkeypatch.setattr(Store, "add_event", add)
    resumed = nas.resume(tmp_path / "stopped.db", space=SPACE)
    assert fakes.summary(resumed) == fakes.summary(whole)
    assert set(resumed.evidences.corrections) == {NAME, "latency(other)"}


@pytest.mark.parametrize("stop", [9, 11])
def test_a_stop_inside_the_second_round_makes_no_further_round(searched, clock, tmp_path, stop: int) -> None:
    clock(1.15)
    options = {"minimize": "macs", "strategy": "evolution(population=4, sample=2)"}
    whole = searched(name="whole.db", **options)

    def stopping(event: object) -> None:
        if isinstance(event, events.TrialFinished) and event.trial.number == stop:
            raise KeyboardInterrupt

    with pytest.raises(nas.study.StudyInterrupted):
        searched(name="stopped.db", listeners=[stopping], **options)
    resumed = nas.resume(tmp_path / "stopped.db", space=SPACE)
    assert [step["until"] for step in log(resumed, STEPPED)] == [8, 16]
    assert fakes.summary(resumed) == fakes.summary(whole)


def test_what_is_only_predicted_is_no_part_of_the_hypervolume_of_a_limit(searched, table, clock) -> None:
    """Everything takes longer than predicted: networks that nobody measured would make the front look good."""
    clock(1.5)
    study = searched(minimize="macs", baseline="random", verify=nas.study.Verify(finalists=2, rounds=1))
    last = {role: values[-1] for role, values in study.hypervolume_history().items()}
    assert last["search"] == study.comparison().hypervolume_search
    role = "search" if study.front else "baseline:random"
    shown = {m.number for m in study.feasible(role)}
    grown = [i for i, (a, b) in enumerate(pairwise((0.0, *study.hypervolume_history()[role]))) if b > a]
    assert {study.members(role)[i].number for i in grown} <= shown
    assert len(shown) <= 2 < len([m for m in study.members(role) if m.metrics[NAME] <= limit(table)])


def test_predictions_of_random_search_never_beat_what_the_search_proved(searched, clock, tmp_path, capsys) -> None:
    clock(1.5)
    study = searched(minimize="macs", baseline="random", verify=False)
    assert "Both rest on predictions" in study.comparison().text
    nas.study.verify(study.location.text, role="search", how=nas.study.Verify(finalists=6))
    study.refresh()
    assert not study.best_of("baseline:random")
    comparison = study.comparison()
    assert "are not compared" in comparison.text
    assert "networks of random search are predicted to meet" in comparison.text
    assert (comparison.hypervolume_random, comparison.gain, comparison.significant) == (None, None, None)
    assert "baseline:random" not in study.hypervolume_history()
    main(["verify", study.location.text, "--quiet", "--format", "json"])  # measures what is missing, of all runs
    said = json.loads(capsys.readouterr().out)
    assert said["beside"]["baseline:random"]
    study.refresh()
    assert all(m.verdict(study.constraints[0]) == "met" for m in study.feasible("baseline:random"))
    assert "not compared" not in said["comparison"]["text"]


def test_each_run_has_its_own_time_to_be_measured(searched, clock, monkeypatch) -> None:
    ticking = count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticking)))  # a second a look
    clock(1.0)
    study = searched(minimize="macs", baseline="random", verify=nas.study.Verify(finalists=4, rounds=1, seconds=0.5))
    assert {d["role"] for d in log(study, MEASURED)} == {"search", "baseline:random"}
    assert study.evidences.measured(NAME, "search")
    assert study.evidences.measured(NAME, "baseline:random")


def test_a_front_says_which_latencies_are_predicted(searched, clock, capsys) -> None:
    clock(1.0)
    study = searched(
        minimize=nas.latency("cpu"), constraints=[], verify=nas.study.Verify(finalists=1, rounds=1), name="front.db"
    )
    guessed = [row["number"] for row in study.to_table("front") if NAME in row["predicted"]]
    assert guessed
    assert len(guessed) == len(study.front) - len([m for m in study.front if m.evidence])
    (note,) = [n for n in study.notes if "is a prediction" in n]
    assert f"of {len(guessed)} of the {len(study.front)} networks" in note
    assert main(["front", study.location.text]) == 0
    assert "~ predicted, not measured" in capsys.readouterr().out


def test_a_limit_inside_the_interval_is_not_shown(searched, table, clock) -> None:
    clock(1.0, spread=0.5)
    study = searched(constraints=[nas.latency("cpu") <= limit(table)], verify=nas.study.Verify(finalists=4, rounds=1))
    tight = [m for m in study.finalists if m.verdict(study.constraints[0]) == "not shown"]
    assert tight
    assert not {m.number for m in tight} & {m.number for m in study.feasible()}


def test_on_a_noisy_machine_the_next_finalists_keep_a_distance_from_the_limit(searched, table, clock) -> None:
    """The four largest networks within the limit are measured as expected, but no interval of 30 % shows them to be."""
    clock(1.0, spread=0.15)
    study = searched(maximize="macs", trials=20, verify=nas.study.Verify(finalists=8, rounds=1))
    (constraint,) = study.constraints
    order = [number for _, (_, number), _ in study.evidences.log]
    verdicts = [next(m for m in study.members() if m.number == number).verdict(constraint) for number in order]
    assert "met" not in verdicts[:4]
    assert verdicts[4] == "met"
    assert study.best.metrics[NAME] * 1.15 <= constraint.limit
    seconds = {m.number: m.metrics[NAME] for m in study.finalists}
    assert all(seconds[number] > constraint.limit / 1.15 for number in order[:4])


def test_without_measuring_nothing_is_shown_and_verify_measures_later(searched, clock, tmp_path, capsys) -> None:
    real = clock(1.0)
    study = searched(verify=False)
    assert real.measured == 0
    assert study.best.verdict(study.constraints[0]) == "not measured"
    assert any("no finalist was measured" in note for note in study.notes)
    assert main(["verify", str(tmp_path / "study.db"), "--finalists", "4", "--quiet", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["finalists"]
    assert 0 < len(rows) == real.measured <= 4
    after = nas.Study.open(tmp_path / "study.db")
    assert after.best.verdict(after.constraints[0]) == "met"
    again = nas.study.verify(tmp_path / "study.db", trials=[after.best.number])
    assert again.best.evidence[NAME].attempts == 2
    with pytest.raises(InvalidInputError, match="no completed trial 99"):
        nas.study.verify(tmp_path / "study.db", trials=[99])


def test_a_trial_at_a_lower_fidelity_is_no_finalist(searched, clock) -> None:
    clock(1.0)
    study = searched(strategy="hyperband(minimum=0.1)", trials=9, verify=False)
    lower = next(t for t in study.trials if not t.fidelity.is_full)
    with pytest.raises(InvalidInputError, match=f"Trial {lower.number} .* at a lower fidelity"):
        nas.study.verify(study.location.text, trials=[lower.number])


def test_baseline_and_references_are_measured_too(searched, clock) -> None:
    clock(1.0)
    wide = fakes.Net(first=12, second=12)  # of no profiled kernel
    study = searched(baseline="random", references=[("wide", wide)], trials=6)
    assert all(m.verdict(study.constraints[0]) == "met" for m in study.feasible("baseline:random"))
    (reference,) = study.members("reference")
    assert reference.evidence[NAME].predicted is None
    assert reference.metrics[NAME] == pytest.approx(devices.truth(graph_of(reference.architecture), 1.0))


def test_a_latency_may_be_measured_in_every_trial(searched, clock) -> None:
    real = clock(1.0)
    study = searched(latency={"cpu": "measure"}, trials=4, minimize=nas.latency("cpu"), constraints=[])
    assert real.measured >= 4
    for member in study.members():
        assert member.metrics[NAME] == pytest.approx(devices.truth(graph_of(member.architecture), 1.0))


def test_several_devices_have_a_front_each(run, table, clock) -> None:
    clock(1.0)
    other = nas.hardware.Device(name="other", runtime="eager")
    second = dataclasses.replace(table, device=other)
    study = run(
        space=SPACE, minimize=[nas.latency("cpu"), nas.latency(other)], latency={"cpu": table, other: second},
        trials=10, strategy=nas.strategies.Random(), fake={"epochs": 1}, verify=nas.study.Verify(finalists=8, rounds=1),
    )  # fmt: skip
    for device, name in (("cpu", NAME), ("other", "latency(other)")):
        points = {m.number: (-m.metrics["accuracy"], m.metrics[name]) for m in study.members()}
        front = {
            n for n, p in points.items() if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points.values())
        }
        assert {m.number for m in study.front_on(device)} == front
    with pytest.raises(InvalidInputError, match="asked nothing of the device 'gpu'"):
        study.front_on("gpu")


class Smooth(nas.Block):
    """A convolution and an activation."""

    function: str = "relu"

    def forward(self, x):
        x = nas.ops.activation(nas.ops.conv(x, 4, kernel=3, name="conv"), self.function, name="act")
        return nas.ops.linear(
            nas.ops.flatten(nas.ops.global_pool(x, name="pool"), name="flat"), x.context.classes, name="fc"
        )


def test_what_a_device_cannot_run_is_refused_by_name_before_the_search(run, tmp_path) -> None:
    space = nas.Space(Smooth(function=nas.one_of("relu", "gelu", name="function")))
    with pytest.raises(IncompatibleError, match=r"activation gelu at `act`"):
        run(space=space, minimize="flash(mcu-256k)")
    assert not (tmp_path / "study.db").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minimize": "latency(cpu)"}, r"needs a source: give a model.*nasturtium profile cpu SPACE.*measure"),
        ({"minimize": "latency(nowhere)"}, r"Unknown device 'nowhere'"),
        ({"minimize": "latency(mcu-256k)"}, r"measured on the board.*sram\(mcu-256k\)"),
        ({"minimize": "flash(cpu)"}, r"asked of microcontrollers"),
        ({"minimize": "latency(cpu)", "latency": {"cpu": "no-such-file"}}, r"cannot be read from 'no-such-file'"),
        ({"minimize": "latency(cpu)", "latency": {"cpu": 3}}, r"comes from a model, the file of one, or 'measure'"),
        ({"minimize": "latency(cpu)", "latency": "measure"}, r"says for each device"),
        ({"minimize": "latency"}, r"write `latency\(DEVICE\)`"),
        ({"verify": 3}, r"`verify` must be a"),
    ],
)
def test_what_cannot_be_used_is_refused(run, options: dict, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        run(space=SPACE, **options)


def test_models_that_do_not_fit_are_refused(run, table) -> None:
    larger = fakes.space(largest=5)
    with pytest.raises(InvalidInputError, match=r"lacks \d+ of \d+ kernels"):
        run(space=larger, minimize=nas.latency("cpu"), latency={"cpu": table})
    with pytest.raises(InvalidInputError, match="of the device 'cpu'"):
        run(space=SPACE, minimize=nas.latency("cpu-eager"), latency={"cpu-eager": table})
    bare = devices.table(SPACE, checked=False)
    with pytest.raises(InvalidInputError, match="never compared with whole networks"):
        run(space=SPACE, minimize=nas.latency("cpu"), latency={"cpu": bare})


def test_a_model_may_be_a_file(searched, table, clock, tmp_path: Path) -> None:
    clock(1.0)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table.to_dict()))
    study = searched(latency={"cpu": path}, trials=3, verify=False)
    assert study.trials[0].metrics[NAME] == table.predict(graph_of(study.trials[0].architecture)).seconds


def test_energy_needs_a_counter(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(device):
        raise InvalidInputError("This machine exposes no energy counter.")

    monkeypatch.setattr(energy, "meter", none)
    with pytest.raises(InvalidInputError, match="no energy counter"):
        run(space=SPACE, minimize=nas.energy("cpu"))


def test_a_reward_may_name_a_latency(searched, table, clock) -> None:
    clock(1.0)
    reward = nas.trial.reward.hard(nas.latency("cpu"), target=1e-5)
    assert reward.metric == NAME
    assert reward({"accuracy": 0.5, NAME: 2e-5}) == pytest.approx(0.25)
    study = searched(
        strategy=nas.strategies.Controller(reward=reward), constraints=[], trials=3, latency={"cpu": table}
    )  # fmt: skip
    assert len(study.trials) == 3


@pytest.mark.parametrize(
    ("relation", "limit", "expected"),
    [("<=", 1.2, "met"), ("<=", 1.1, "met"), ("<=", 1.0, "not shown"), ("<=", 0.8, "missed"),
     (">=", 0.8, "met"), (">=", 1.0, "not shown"), (">=", 1.2, "missed")],
)  # fmt: skip
def test_verdicts_follow_the_whole_interval(relation, limit: float, expected: str) -> None:
    found = nas.hardware.Measurement(
        seconds=1.0, low=0.9, high=1.1, conditions=nas.hardware.Conditions(device=nas.hardware.device("cpu"))
    )
    constraint = Constraint(metric=NAME, relation=relation, limit=limit)
    assert Evidence(metric=NAME, measurement=found, predicted=1.0).verdict(constraint) == expected
    assert Evidence(metric=NAME, measurement=None, predicted=1.0).verdict(constraint) == "not measured"


def test_trust_reaches_the_models_of_a_stored_study(searched, clock, table, monkeypatch) -> None:
    clock()
    where = searched(trials=2, verify=False).location.text
    seen = []

    def read(data, *, trust=False):
        seen.append(trust)
        return table

    monkeypatch.setattr(on_device, "model_from_dict", read)
    for trust in (False, True):
        nas.resume(where, space=SPACE, trust=trust)
        nas.study.verify(where, trials=[0], trust=trust)
    assert seen == [False, False, True, True]
