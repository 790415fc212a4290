"""What is public: the root's names load lazily, and each room's `__all__` is sorted and true."""

import importlib
import subprocess
import sys

import pytest

import nasturtium as nas

ROOMS = [name for name in nas._MODULES if name != "ops"]


def test_every_public_name_of_the_root_loads():
    assert len(nas.__all__) == len(set(nas.__all__))
    for name in nas.__all__:
        assert getattr(nas, name) is not None


def test_lazy_names_and_public_names_agree():
    assert set(nas.__all__) == {*nas._WHERE, *nas._MODULES, "__version__"}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = nas.no_such_name


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_exports_what_it_says(room: str):
    module = importlib.import_module(f"nasturtium.{room}")
    for name in getattr(module, "__all__", []):
        assert hasattr(module, name), name


def test_the_search_side_runs_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import random, nasturtium as nas\n"
        "space = nas.zoo.space('mobile')\n"
        "a = space.sample(random.Random(0))\n"
        "b = space.mutate(a, random.Random(1))\n"
        "print(nas.cost(b, (1, 8, 8), classes=10).macs, nas.strategies.load('evolution'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
