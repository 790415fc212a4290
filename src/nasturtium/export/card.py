"""The model card: what the network is, how good, how large, whether it meets its limits, and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nasturtium.export.onnx import ABSOLUTE, RELATIVE, Agreement
from nasturtium.tasks import Interval, Task
from nasturtium.trial import METRICS, Constraint, format_constraint, format_number

CONVENTIONS = {
    "params": "trainable numbers; running statistics are not counted",
    "macs": "multiply-accumulates of convolution and linear weights, one input; no bias, norm or activation",
    "activations": "elements of all convolution outputs, one input",
    "peak_memory": "bytes of activations alive at the worst moment: int8, batch 1, the given order, liveness",
    "irregularity": "tensors that kernels read, per kernel on the longest path; 1 for a chain",
    "kernels": "launches: operations with the norm and activation that follow them",
}
"""What each cost counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What is known of a network on a device, such as its latency: measured, or only predicted."""

    metric: str
    """Such as "latency(cpu)"."""
    value: float | None
    """Measured (the median); None where it was not."""
    low: float | None = None
    """Ends of the interval of `value`."""
    high: float | None = None
    confidence: float = 0.95
    predicted: float | None = None
    """What the model said before; None where there was none."""
    source: str = ""
    """Of `predicted`, in words."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Under which it was measured, in words."""
    warnings: Sequence[str] = ()
    unmeasured: str = "not measured"
    """The verdict where there is no value: "not proved" of a microcontroller's memory."""

    def verdict(self, constraint: Constraint) -> str:
        """Of a limit: "met" or "missed" where the whole interval does, else "not shown" or what `unmeasured` says."""
        if self.low is None or self.high is None:
            return self.unmeasured
        ends = {verdict(constraint, end) for end in (self.low, self.high)}
        return ends.pop() if len(ends) == 1 else "not shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What the model card says."""

    title: str
    architecture: str
    """The architecture's choices, readable."""
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Sequence[str]
    costs: Mapping[str, float]
    agreement: Agreement
    metrics: Mapping[str, float | Interval] = field(default_factory=dict)
    constraints: Sequence[Constraint] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    task: Task | None = None
    proofs: Sequence[Proof] = ()
    """What was measured on devices."""
    pictures: bool = False
    needs: Sequence[str] = ()
    """Further packages that `model.py` imports."""

    def values(self) -> dict[str, float]:
        """All numbers by name, intervals by their estimate; a bare "accuracy" is that on validation."""
        plain = {k: v.estimate if isinstance(v, Interval) else v for k, v in self.metrics.items()}
        searched = {k.removeprefix("validation_"): v for k, v in plain.items() if k.startswith("validation_")}
        known = {proof.metric: proof.value for proof in self.proofs if proof.value is not None}
        return {**searched, **plain, **self.costs, **known}

    def verdict(self, constraint: Constraint) -> str:
        """Of a limit: "met", "missed", "not measured", "not proved" (a memory), or "not shown": inside an interval."""
        proof = next((proof for proof in self.proofs if proof.metric == constraint.metric), None)
        if proof is not None:
            return proof.verdict(constraint)
        return verdict(constraint, self.values().get(constraint.metric))

    def text(self) -> str:
        """The card as Markdown."""
        sections = [
            self._head(),
            self._quality(),
            self._costs(),
            self._limits(),
            self._devices(),
            self._use(),
            self._made(),
        ]
        return "\n\n".join(section for section in sections if section) + "\n"

    def _head(self) -> str:
        shapes = ", ".join(f"`{name}` (batch, {', '.join(map(str, shape))})" for name, shape in self.inputs.items())
        lines = [f"# {self.title}", "", "A network found by neural architecture search with Nasturtium.", ""]
        lines.append(
            f"- Input: {shapes}, float32, normalised as below." if self.task else f"- Input: {shapes}, float32."
        )
        lines.append(f"- Output: {', '.join(f'`{name}`' for name in self.outputs)}.")
        if self.task is not None:
            names = self.task.class_names
            shown = ", ".join(names[:20]) + (f" … ({len(names)} in all)" if len(names) > 20 else "")
            lines.append(f"- Classes: {shown}.")
            mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (self.task.mean, self.task.std))
            unit = "pixels in [0, 1]" if self.task.scale != 1.0 else "the stored values"
            lines.append(f"- Normalisation: ({unit} - mean) / std by channel, mean ({mean}), std ({std}).")
            lines.append(f"- Data: {self.task.name}. {self.task.source.rstrip('.')}.")
        return "\n".join([*lines, "", "## Architecture", "", "```text", self.architecture.strip(), "```"])

    def _quality(self) -> str:
        if not self.metrics:
            return ""
        rows = ["## Quality", "", "| metric | value | interval |", "| --- | --- | --- |"]
        for name, value in self.metrics.items():
            if isinstance(value, Interval):
                low, high = shown(name, value.low), shown(name, value.high)
                rows.append(f"| {name} | {shown(name, value.estimate)} | {low} to {high} ({value.confidence:.0%}) |")
            else:
                rows.append(f"| {name} | {shown(name, value)} | |")
        if "test_accuracy" in self.metrics:
            note = "The test images were used once, for this network; the search saw only validation accuracy."
            rows += ["", note]
        return "\n".join(rows)

    def _costs(self) -> str:
        rows = ["## Costs", "", "| cost | value | exactly | what it counts |", "| --- | --- | --- | --- |"]
        for name, value in self.costs.items():
            rows.append(f"| {name} | {shown(name, value)} | {value:.10g} | {CONVENTIONS.get(name, '')} |")
        return "\n".join(rows)

    def _limits(self) -> str:
        if not self.constraints:
            return ""
        values = self.values()
        rows = ["## Constraints", "", "| limit | value | verdict |", "| --- | --- | --- |"]
        for constraint in self.constraints:
            value = values.get(constraint.metric)
            text = "unknown" if value is None else shown(constraint.metric, value)
            found = self.verdict(constraint)
            marked = f"**{found}**" if found in ("missed", "not shown", "not proved") else found
            rows.append(f"| {limit_text(constraint)} | {text} | {marked} |")
        limited = {constraint.metric for constraint in self.constraints}
        for proof in self.proofs:
            if proof.metric in limited and "it is" in proof.conditions:
                rows += ["", f"What is compared as `{proof.metric}`: {proof.conditions['it is']}."]
        return "\n".join(rows)

    def _devices(self) -> str:
        if not self.proofs:
            return ""
        rows = [
            "## On the device",
            "",
            "| metric | measured | interval | predicted before |",
            "| --- | --- | --- | --- |",
        ]
        for proof in self.proofs:
            said = [proof.value, proof.low, proof.high, proof.predicted]
            value, low, high, predicted = ("–" if x is None else shown(proof.metric, x) for x in said)
            measured = proof.unmeasured if proof.value is None else value
            interval = "–" if proof.low is None else f"{low} to {high} ({proof.confidence:.0%})"
            if proof.value is not None and proof.confidence == 1.0:  # a count of bytes
                measured, interval = f"{proof.value:,.0f} B", "exact"
            rows.append(f"| {proof.metric} | {measured} | {interval} | {predicted} |")
        rows += [
            "",
            "A limit is met where the whole interval meets it, missed where the whole interval misses it, and "
            "otherwise not shown. The interval covers repetition in fresh processes; bytes of memory are counted.",
        ]
        for proof in self.proofs:
            rows += ["", *_conditions(proof)]
        return "\n".join(rows)

    def _use(self) -> str:
        names = list(self.inputs)
        shape = f"1, {', '.join(map(str, self.inputs[names[0]]))}"
        arguments = ", ".join(f"torch.zeros(1, {', '.join(map(str, s))})" for s in self.inputs.values())
        feeds = ", ".join(
            f'"{name}": np.zeros((1, {", ".join(map(str, s))}), np.float32)' for name, s in self.inputs.items()
        )
        needs = "".join(f", {name}" for name in self.needs)
        lines = ["## Use", "", f"In PyTorch (needs torch, safetensors{needs}; not Nasturtium):", "", "```python"]
        lines += ["import torch", "import model  # model.py, from this folder", "", "network = model.load()"]
        lines += [f"output = network({arguments})", "```"]
        if self.pictures:
            lines += ["", "On a picture: `python model.py picture.png` (also needs pillow)."]
        lines += ["", "In onnxruntime:", "", "```python", "import numpy as np", "import onnxruntime", ""]
        lines += ['session = onnxruntime.InferenceSession("model.onnx")', f"output = session.run(None, {{{feeds}}})[0]"]
        lines += ["```", "", f"The first axis of `({shape})` is the batch; any size works. {self._agreement()}"]
        return "\n".join(lines)

    def _agreement(self) -> str:
        a = self.agreement
        return (
            f"`model.onnx` (opset {a.opset}) was compared with PyTorch on {a.samples} inputs: the largest difference "
            f"is {a.largest_difference:.2g}, where outputs reach {a.largest_output:.3g} "
            f"(accepted: {ABSOLUTE:g} + {RELATIVE:g} times that)."
        )

    def _made(self) -> str:
        if not self.provenance:
            return ""
        lines = ["## How it was made", ""]
        facts = {k: v for k, v in self.provenance.items() if k != "command"}
        if facts:
            lines += ["| | |", "| --- | --- |", *[f"| {key} | {_cell(value)} |" for key, value in facts.items()]]
        if "command" in self.provenance:
            lines += ["", "To make it again:", "", "```sh", str(self.provenance["command"]), "```"]
        return "\n".join(lines)


def verdict(constraint: Constraint, value: float | None) -> str:
    """Say "met", "missed", or "not measured"."""
    if value is None:
        return "not measured"
    met = value <= constraint.limit if constraint.relation == "<=" else value >= constraint.limit
    return "met" if met else "missed"


def _conditions(proof: Proof) -> list[str]:
    """How a number came about, one fact a line."""
    facts = {"predicted by": proof.source, **proof.conditions} if proof.source else dict(proof.conditions)
    lines = [f"- `{proof.metric}`, {name}: {text}" for name, text in facts.items()]
    return lines + [f"- `{proof.metric}`, warning: {text}" for text in proof.warnings]


def limit_text(constraint: Constraint) -> str:
    """A constraint as people write it, in the unit of its metric where that is a known one."""
    if constraint.metric in METRICS:
        return format_constraint(constraint)
    return f"{constraint.metric} {constraint.relation} {constraint.limit:g}"


def shown(name: str, value: float) -> str:
    """A value as people read it, by the unit of its metric ("test_accuracy" is an accuracy)."""
    for known in (name, name.removeprefix("test_"), name.removeprefix("validation_")):
        if known in METRICS:
            return METRICS[known].format(value)
    return format_number(value)


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).replace("|", "\\|").replace("\n", " ")
