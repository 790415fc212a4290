"""Limits of a microcontroller's memory: the finalists' files, with a made converter but for one slow test."""

from __future__ import annotations

import importlib.util
import json
import re

import device_fakes as devices
import pytest
import study_fakes as fakes

import nasturtium as nas
from nasturtium import report
from nasturtium.cli import main
from nasturtium.cli.results import finalist_table
from nasturtium.errors import ExportError, InvalidInputError, StoreError, StudyMismatchError
from nasturtium.export.card import Card
from nasturtium.export.onnx import Agreement
from nasturtium.hardware import measuring
from nasturtium.hardware.micro_file import ALONE, UNTRAINED, FileMemory, MemoryMeasurement, memory_of
from nasturtium.hardware.tflite import PACKAGES
from nasturtium.study import arguments, memory_proof
from nasturtium.study.evidence import Evidence
from nasturtium.study.store import Store
from nasturtium.study.taking import _proofs
from nasturtium.trial import Constraint

SRAM, FLASH = "sram(mcu-256k)", "flash(mcu-256k)"
SPACE = nas.Space(
    fakes.Net(
        first=nas.int_range(2, 6, name="first"), second=nas.one_of(3, 6, name="second"),
        kernel=nas.one_of(1, 3, name="kernel"), deep=nas.one_of(False, True, name="deep"),
    )
)  # fmt: skip
STRUCTURE = 1500
"""Bytes that a made file has beside its weights."""
LIMIT = 1850
"""Half of the space keeps to it."""
ABSENT = [package for name, package in PACKAGES.items() if importlib.util.find_spec(name) is None]


def made_file(model, input_shape) -> FileMemory:
    """In place of the converter: a file of a byte for each number and a structure, and an arena of 5,000 bytes."""
    numbers = sum(p.numel() for p in model.parameters())
    return FileMemory(file_bytes=numbers + STRUCTURE, arena_bytes=5_000, activation_bytes=3_000)


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch):
    def install(make=made_file, missing=()):
        monkeypatch.setattr(memory_proof, "measure_file", make)
        monkeypatch.setattr(memory_proof, "missing_packages", lambda: tuple(missing))

    install()
    return install


@pytest.fixture
def searched(run):
    def search(**options) -> nas.Study:
        arguments = {
            "space": SPACE, "minimize": (), "trials": 12, "fake": {"epochs": 1}, "strategy": nas.strategies.Random(),
            "constraints": [nas.flash("mcu-256k") <= LIMIT], "verify": nas.study.Verify(finalists=5),
        } | options  # fmt: skip
        return run(**arguments)

    return search


def limit_of(study: nas.Study, name: str) -> Constraint:
    return next(c for c in study.constraints if c.metric == name)


def graph_of(architecture: nas.Architecture) -> nas.Graph:
    return nas.trace(architecture, (1, 8, 8), classes=10)


def test_a_file_that_misses_is_never_reported_as_meeting_the_limit(converter, searched) -> None:
    study = searched()
    flash = limit_of(study, FLASH)
    assert 0 < len(study.finalists) <= 10
    for member in study.finalists:
        graph = graph_of(member.architecture)
        count = graph.params + STRUCTURE
        found = member.evidence[FLASH]
        assert (found.measurement.bytes, member.metrics[FLASH]) == (count, count)
        assert member.verdict(flash) == ("met" if count <= LIMIT else "missed")
        assert found.measured_text == f"{count:,} B"
        assert "code of the runtime" in found.measurement.facts["it is"]
        assert "reference kernels" in member.evidence[SRAM].measurement.facts["it is"]
        assert member.metrics[SRAM] == 5_000
    assert "missed" in {m.verdict(flash) for m in study.finalists}  # the sum of weights lets them through
    assert study.front
    for member in (*study.front, study.best, *study.feasible()):
        assert [member.verdict(c) for c in study.constraints] == ["met"] * len(study.constraints)
    unproved = next(m for m in study.members() if not m.evidence)
    assert unproved.verdict(flash) == "not proved"
    assert any("finalists were written and allocated" in note and "missed" in note for note in study.notes)
    for kind in ("sram", "flash"):  # of the file and the arena, never of the program
        assert any(note.startswith("The int8 files") and ALONE[kind] in note for note in study.notes)
        assert f"{kind}: {ALONE[kind]}" in finalist_table(study)


def test_the_model_is_corrected_by_what_files_are_larger(converter, searched) -> None:
    study = searched(trials=20, verify=nas.study.Verify(finalists=3, rounds=2))
    later = [m for m in study.members() if m.number >= 10 and not m.evidence]
    assert later
    exact = [abs(m.metrics[FLASH] - graph_of(m.architecture).params - STRUCTURE) for m in later]
    assert sum(exact) / len(exact) < 500  # the sum of weights alone is some 1,000 B off
    raw = nas.hardware.predict_flash(graph_of(later[0].architecture)).total
    assert later[0].metrics[FLASH] != raw
    order = [number for name, (_, number), _ in study.evidences.log if name == FLASH]
    first, *_, last = [study.members()[number].evidence[FLASH].source for number in order]
    assert "a lower bound" in first
    assert re.search(r"plus [\d,]+ B, the median by which \d+ files? w", last)
    (proof,) = [p for p in _proofs(later[0]) if p.metric == FLASH]
    shift = int(re.search(r"plus ([\d,]+) B", proof.source)[1].replace(",", ""))
    assert later[0].metrics[FLASH] == pytest.approx(raw + shift, abs=1)
    assert "lower bound" not in proof.source


def test_the_memory_of_the_device_itself_is_a_limit(converter, searched) -> None:
    study = searched(constraints=[], minimize=nas.flash("mcu-256k"), trials=4)
    assert limit_of(study, SRAM) == (nas.sram("mcu-256k") <= 256 * 1024)
    assert limit_of(study, FLASH) == (nas.flash("mcu-256k") <= 1024 * 1024)
    tighter = searched(constraints=[nas.sram("mcu-256k") <= 60_000], trials=2, name="tighter.db")
    assert [c.limit for c in tighter.constraints if c.metric == SRAM] == [60_000]


def test_without_the_extra_nothing_is_proved_and_the_reason_is_said(converter, searched, tmp_path, capsys) -> None:
    converter(missing=("litert-torch",))
    study = searched(trials=4)
    flash = limit_of(study, FLASH)
    assert not study.finalists
    assert study.best.verdict(flash) == "not proved"
    assert any("No network is proved to fit" in n and "litert-torch" in n and "[tinyml]" in n for n in study.notes)
    (proof,) = [p for p in _proofs(study.best) if p.metric == FLASH]
    assert proof.verdict(flash) == "not proved"
    assert "litert-torch" in proof.warnings[0]
    page = report.write(study, tmp_path / "report.html").read_text()
    assert "No network is proved to fit" in page
    assert main(["verify", str(tmp_path / "study.db"), "--quiet"]) == 3  # nothing is shown
    capsys.readouterr()
    converter()  # it was installed in the meantime
    after = nas.study.verify(tmp_path / "study.db")
    assert {m.verdict(flash) for m in after.front} == {"met"}
    (again,) = {m.number for m in after.front[:1]}
    assert nas.study.verify(tmp_path / "study.db", trials=[again]).members()[again].evidence[FLASH].attempts == 2


def test_measuring_one_network_again_without_the_extra_keeps_its_latency_and_says_why(
    converter, searched, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(measuring, "measure_all", devices.Clock(1.5))
    table, space = devices.table(fakes.space(largest=4)), fakes.space(largest=4)
    study = searched(
        space=space, minimize=nas.latency("cpu"), latency={"cpu": table}, trials=4, verify=nas.study.Verify(finalists=2)
    )
    (number,) = [m.number for m in study.members() if SRAM in m.evidence][:1]
    known = study.members()[number].evidence.get("latency(cpu)")
    before = 0 if known is None else known.attempts
    converter(missing=("litert-torch",))
    main(["verify", study.location.text, "--trial", str(number), "--quiet"])
    said = capsys.readouterr()
    assert "No more were written" in said.out + said.err
    assert "litert-torch" in said.out + said.err
    study.refresh()
    assert study.members()[number].evidence["latency(cpu)"].attempts == before + 1
    assert not study.evidences.stale("latency(cpu)")


def test_a_network_without_a_file_stands_on_no_front(converter, searched) -> None:
    def refused(model, input_shape):
        raise ExportError("no kernel for it.")

    converter(refused)
    study = searched(trials=4)
    assert study.finalists
    for member in study.finalists:
        assert member.verdict(limit_of(study, FLASH)) == "not proved"
        assert "no kernel for it" in member.evidence[FLASH].reason
    rows = {row["number"]: row for row in study.to_table("search")}
    assert all({SRAM, FLASH} <= set(rows[m.number]["predicted"]) for m in study.finalists)
    assert not study.front
    assert any("of 0 finalists were written" in note and "4 more have none" in note for note in study.notes)
    with pytest.raises(StoreError, match="4 not proved"):
        _ = study.best


def test_the_card_and_the_report_state_bytes_and_verdicts(converter, searched, tmp_path, capsys) -> None:
    study = searched()
    best, flash = study.best, limit_of(study, FLASH)
    count = best.evidence[FLASH].measurement.bytes
    text = Card(
        title="t", architecture="a", inputs={"x": (1, 8, 8)}, outputs=("y",), costs={},
        agreement=Agreement(samples=1, largest_difference=0.0, largest_output=1.0, opset=18),
        constraints=(flash,), proofs=_proofs(best),
    ).text()  # fmt: skip
    assert f"| {FLASH} | {count:,} B | exact |" in text
    assert "| met |" in text
    assert f"What is compared as `{FLASH}`: {ALONE['flash']}." in text.partition("## On the device")[0]
    assert "predicted from the graph (weights, biases and scales" in text
    page = report.write(study, tmp_path / "report.html").read_text()
    assert f"{count:,} B" in page
    assert ALONE["flash"] in page
    assert main(["verify", study.location.text, "--trial", str(best.number), "--quiet", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["finalists"]
    assert {row["metric"] for row in rows} == {SRAM, FLASH}
    assert count in [row["measured"] for row in rows]


def test_a_file_of_untrained_weights_is_met_with_a_warning(converter, searched, tmp_path) -> None:
    study = searched(trials=4)  # the fakes leave no weights
    best = study.best
    assert best.evidence[FLASH].measurement.warnings == (UNTRAINED,)
    assert next(p for p in _proofs(best) if p.metric == FLASH).warnings == (UNTRAINED,)
    numbers = ", ".join(str(n) for n in sorted(m.number for m in study.finalists))
    assert f"Warning, trials {numbers}: {UNTRAINED}" in finalist_table(study)
    assert UNTRAINED in report.write(study, tmp_path / "report.html").read_text()
    device = nas.hardware.device("mcu-256k")
    found = FileMemory(file_bytes=2, arena_bytes=1, activation_bytes=1)
    assert memory_of(found, "sram", device, trained=True).warnings == ()


def test_a_study_begun_before_memories_were_proved_goes_on(converter, searched, tmp_path, monkeypatch) -> None:
    asked = {"constraints": [nas.flash("mcu-256k") <= LIMIT], "trials": 4}
    with monkeypatch.context() as before:  # as it was then
        before.setattr(arguments, "own_limits", lambda devices, limits: (devices, limits))
        for name in ("same.db", "resumed.db"):
            old = searched(name=name, verify=False, **asked)
            begun = [t.architecture for t in old.trials]
    assert [c.metric for c in old.constraints] == [FLASH]
    same = searched(name="same.db", **asked | {"trials": 6})
    resumed = nas.resume(tmp_path / "resumed.db", space=SPACE, verify=nas.study.Verify(finalists=5), trials=6)
    for study in (same, resumed):
        assert [c.metric for c in study.constraints] == [FLASH]
        assert [t.architecture for t in study.trials][:4] == begun
        assert len(study.trials) == 6
        assert study.finalists
        assert {m.verdict(limit_of(study, FLASH)) for m in study.feasible()} <= {"met"}
    assert searched(name="same.db", **asked | {"trials": 6}).settings == same.settings  # and again
    assert nas.resume(tmp_path / "same.db", space=SPACE).settings["compared"] == same.settings["compared"]
    with pytest.raises(StudyMismatchError, match="constraints"):
        searched(name="same.db", **asked | {"constraints": [nas.flash("mcu-256k") <= LIMIT - 1]})


@pytest.mark.slow
def test_a_search_that_was_stopped_at_its_files_goes_on(converter, searched, tmp_path) -> None:
    whole = searched(name="whole.db")
    calls = []

    def stopping(model, input_shape):
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return made_file(model, input_shape)

    converter(stopping)
    with pytest.raises(nas.study.StudyInterrupted):
        searched(name="stopped.db")
    converter()
    resumed = nas.resume(tmp_path / "stopped.db", space=SPACE)

    def plain(study: nas.Study) -> list:
        store = Store.open(study.location)
        try:
            log = [d for _, kind, d in store.events() if kind == "measured"]
        finally:
            store.close()
        return [[(t.number, dict(t.metrics)) for t in study.trials], [(d["number"], d["metric"]) for d in log]]

    assert plain(resumed) == plain(whole)


def test_a_measured_memory_is_plain_json_and_its_verdict_is_sharp() -> None:
    device = nas.hardware.device("mcu-256k")
    found = MemoryMeasurement(kind="sram", bytes=16_384, device=device, facts={"how": "counted"})
    assert MemoryMeasurement.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    evidence = Evidence(metric=SRAM, measurement=found, predicted=16_000.0)
    assert evidence.verdict(nas.sram(device) <= 16_384) == "met"
    assert evidence.verdict(nas.sram(device) <= 16_383) == "missed"
    assert Evidence(metric=SRAM, measurement=None, predicted=1.0).verdict(nas.sram(device) <= 2) == "not proved"
    with pytest.raises(InvalidInputError, match="cannot be read"):
        MemoryMeasurement.from_dict({"version": 1, "kind": "sram"})
    with pytest.raises(InvalidInputError, match="at least 0"):
        MemoryMeasurement(kind="sram", bytes=-1, device=device)


@pytest.mark.slow
@pytest.mark.skipif(bool(ABSENT), reason=f"the extra tinyml is not installed: {', '.join(ABSENT)}")
def test_finalists_are_really_written_and_allocated(run) -> None:
    study = run(
        space=nas.Space(nas.Sequential(nas.Conv(nas.one_of(4, 8, name="c"), stride=2), nas.Conv(8), nas.Classifier())),
        minimize=(), constraints=["sram(mcu-256k) <= 4000", "flash(mcu-256k) <= 6kB"], trials=2,
        strategy=nas.strategies.Random(), estimator=nas.estimators.Trained(epochs=1),
    )  # fmt: skip
    assert study.finalists
    for member in study.finalists:
        graph = graph_of(member.architecture)
        arena, file = (member.evidence[name].measurement for name in (SRAM, FLASH))
        assert arena.bytes == pytest.approx(nas.hardware.predict_arena(graph).total, rel=0.05)
        assert nas.hardware.predict_flash(graph).total < file.bytes < nas.hardware.predict_flash(graph).total + 4_000
        assert "trained weights" in arena.facts["how"]
        assert "untrained" not in arena.facts["how"]
    assert study.best.verdict(study.constraints[0]) == "met"
