"""Descriptions of devices: validation, JSON, files of the user."""

import json
import subprocess
import sys

import pytest

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.hardware import BUILT_IN, Device, add_device, device, devices, load_devices


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("NASTURTIUM_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("found", BUILT_IN.values(), ids=BUILT_IN)
def test_a_built_in_device_survives_json(found):
    assert Device.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert device(found.name) is found


def test_the_microcontrollers_are_those_of_the_issue_in_units_of_1024():
    sizes = {name: (BUILT_IN[name].sram, BUILT_IN[name].flash) for name in ("mcu-256k", "mcu-320k", "mcu-512k")}
    assert sizes == {
        "mcu-256k": (262_144, 1_048_576),
        "mcu-320k": (327_680, 1_048_576),
        "mcu-512k": (524_288, 2_097_152),
    }
    assert all(BUILT_IN[name].is_microcontroller and BUILT_IN[name].dtype == "int8" for name in sizes)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"name": "a b"}, "letters, digits"),
        ({"name": "a", "threads": 0}, "'threads' must be a whole number of at least 1, got 0"),
        ({"name": "a", "threads": True}, "'threads'"),
        ({"name": "a", "batch": 1.5}, "'batch'"),
        ({"name": "a", "sram": 0}, "'sram'"),
        ({"name": "a", "runtime": "onxx"}, "Did you mean 'onnx'"),
        ({"name": "a", "runtime": "onnx_int8"}, "computes in int8, got dtype 'float32'"),
        ({"name": "a", "target": "tpu"}, "'target' must be like"),
        ({"name": "a", "target": "cuda"}, "'eager' and 'compiled' are measured"),
        ({"name": "a", "target": "microcontroller", "runtime": "tflm", "dtype": "int8"}, "`sram` and `flash`"),
        ({"name": "a", "address": "192.168.1.20"}, "'http://host:8420'"),
        ({"name": "a", "address": "http://x:1", "runtime": "eager"}, "ONNX Runtime only"),
        ({"name": "a", "address": "http://h:abc"}, "'http://host:8420'"),
        ({"name": "a", "address": "http://me@h:1"}, "'http://host:8420'"),
        ({"name": "a", "address": "http://::1:8420"}, "'http://host:8420'"),
        ({"name": "a", "token_variable": "my secret!"}, "never in a device"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(fields, match):
    with pytest.raises(InvalidInputError, match=match):
        Device(**fields)


def test_unknown_fields_names_and_versions_are_refused():
    with pytest.raises(InvalidInputError, match="Did you mean 'threads'"):
        Device.from_dict({"name": "a", "thread": 2})
    with pytest.raises(InvalidInputError, match="at least a `name`"):
        Device.from_dict({"runtime": "onnx"})
    with pytest.raises(InvalidInputError, match="version 9"):
        Device.from_dict({"name": "a", "version": 9})
    with pytest.raises(UnknownNameError, match="Did you mean 'cpu-eager'"):
        device("cpu-eger")


def test_a_device_is_added_to_a_file_that_keeps_its_comments(tmp_path):
    file = tmp_path / "devices.toml"
    file.write_text('# my boards\n[pi4]\naddress = "http://pi:8420"\nthreads = 4')
    new = Device(
        name="m4.v2", runtime="tflm", target="microcontroller", dtype="int8", sram=1, flash=2, note='a "b" ü\\'
    )
    assert add_device(new) == file.relative_to(tmp_path)
    assert file.read_text().startswith("# my boards\n")
    assert load_devices(file) == {
        "pi4": Device(name="pi4", address="http://pi:8420", threads=4),
        "m4.v2": new,
    }
    assert device("m4.v2") == new
    assert [*devices()][-2:] == ["pi4", "m4.v2"]
    with pytest.raises(InvalidInputError, match="a device 'pi4' already"):
        add_device(Device(name="pi4"))
    with pytest.raises(InvalidInputError, match="a device 'cpu' already"):
        add_device(Device(name="cpu"))


def test_a_json_file_holds_devices_too(tmp_path, monkeypatch):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"slow": {"threads": 1, "runtime": "eager"}}))
    monkeypatch.setenv("NASTURTIUM_DEVICES", str(file))
    assert device("slow").runtime == "eager"
    with pytest.raises(InvalidInputError, match="edit a JSON file by hand"):
        add_device(Device(name="b"))


@pytest.mark.parametrize(
    ("text", "match"),
    [("[cpu]\n", "built-in"), ("[a]\nname = 'b'\n", "named 'b'"), ("a = 3\n", "one table"), ("[a", "cannot be read")],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, text, match):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(InvalidInputError, match=match):
        load_devices(file)


def test_descriptions_need_neither_torch_nor_onnx_runtime():
    code = (
        "import sys; sys.modules['torch'] = sys.modules['onnxruntime'] = None\n"
        "import nasturtium as nas; print(nas.hardware.device('cpu').text, nas.hardware.Measurement)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
