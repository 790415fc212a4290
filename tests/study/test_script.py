"""What a user defines in his script reaches the workers; a script without a guard is told so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
import nasturtium as nas

class Mine(nas.Block):
    width: int = 4
    def forward(self, x):
        x = nas.ops.conv(x, self.width, name="conv")
        return nas.ops.linear(nas.ops.flatten(nas.ops.global_pool(x)), x.context.classes)

class Guess:
    def __init__(self, base=0.5): self.base = base
    def to_dict(self): return {"base": self.base}
    @classmethod
    def from_dict(cls, data): return cls(**data)
    def estimate(self, architecture, fidelity, job):
        return {"accuracy": self.base + architecture.block.width / 100}

def main():
    sys.path.insert(0, FAKES)
    import study_fakes
    space = nas.Space(Mine(width=nas.int_range(1, 9, name="width")))
    study = nas.search(space, "digits", maximize="accuracy", strategy=study_fakes.Climber(), estimator=Guess(),
                       trials=4, workers=2, concurrency=2)
    print(len(study.trials), len(study.failures))
"""


def execute(tmp_path: Path, ending: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "script.py"
    path.write_text(f"FAKES = {str(Path(__file__).parent)!r}\n{SCRIPT}\n{ending}\n")
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=False)


def test_blocks_and_estimators_of_the_script_work_in_workers(tmp_path) -> None:
    result = execute(tmp_path, "if __name__ == '__main__': main()")
    assert result.stdout.strip() == "4 0", result.stderr


def test_a_script_without_a_guard_is_told_so(tmp_path) -> None:
    result = execute(tmp_path, "main()")
    assert result.returncode != 0
    assert "under `if __name__ == '__main__':`" in result.stderr
