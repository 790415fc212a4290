"""The C++ sources of a file: the same bytes, and a compiler takes them."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from nasturtium.errors import InvalidInputError
from nasturtium.hardware import c_sources, write_c_array

DATA = b"\x1c\x00\x00\x00TFL3" + bytes(range(256))


def test_the_array_holds_the_bytes():
    header, source = c_sources(DATA, "net", arena_bytes=4096, operations=("CONV_2D", "ADD", "CONV_2D"))
    assert bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", source)) == DATA
    assert "alignas(16) const unsigned char net[]" in source
    assert "net_arena_size = 4096 + 0;" in header
    assert "net_arena_size = 4096 + 512;" in c_sources(DATA, "net", arena_bytes=4096, margin_bytes=512)[0]
    assert "net_operations = 2" in header
    assert "AddConv2D" in header
    assert "AddAdd" in header


def test_a_compiler_takes_it(tmp_path):
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler: g++ and c++ are absent")
    (tmp_path / "net.tflite").write_bytes(DATA)
    header, source = write_c_array(tmp_path / "net.tflite", tmp_path / "out", "net", arena_bytes=64, operations=["ADD"])
    main = tmp_path / "out" / "main.cc"
    main.write_text(
        '#include "net.h"\nstruct R { int n = 0; void AddAdd() { ++n; } };\n'
        "int main() { R r; NET_REGISTER(r); alignas(16) static unsigned char arena[net_arena_size];\n"
        f"  return !(r.n == 1 && net_size == {len(DATA)} && net[4] == 'T' && !arena[0]"
        " && reinterpret_cast<unsigned long>(net) % 16 == 0); }\n"
    )
    program = tmp_path / "main"
    subprocess.run(
        [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{header.parent}", main, source, "-o", program],
        check=True,
    )
    assert subprocess.run([program], check=False).returncode == 0


def test_mistakes_are_named():
    with pytest.raises(InvalidInputError, match="C identifier"):
        c_sources(DATA, "my net")
    with pytest.raises(InvalidInputError, match="TFL3"):
        c_sources(b"GIF89a00")
    with pytest.raises(InvalidInputError, match="NO_SUCH"):
        c_sources(DATA, operations=["NO_SUCH"])
    with pytest.raises(InvalidInputError, match="margin_bytes"):
        c_sources(DATA, arena_bytes=1, margin_bytes=-1)
