"""The agent: a real second process, and what it refuses."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import nasturtium as nas
from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.hardware import Plan, agent
from nasturtium.hardware.remote import Remote

TOKEN = "a secret of both machines"
GRAPH = nas.trace(nas.Sequential(nas.Conv(4, stride=2), nas.Classifier()), (1, 8, 8), classes=3)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A copy of the agent's file alone, run by a second process that cannot import the library."""
    folder = tmp_path_factory.mktemp("device")
    file = folder / "agent.py"
    file.write_text(
        "import sys; sys.modules['nasturtium'] = sys.modules['torch'] = None\n" + Path(agent.__file__).read_text()
        .replace("from __future__ import annotations\n", "")
    )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(file), "serve", "--port", "0"],
        env={**os.environ, agent.TOKEN_VARIABLE: TOKEN}, stdout=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    port = int(line.strip().rstrip(".").rpartition(":")[2])
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture
def board(address, monkeypatch):
    monkeypatch.setenv(agent.TOKEN_VARIABLE, TOKEN)
    return nas.hardware.Device(name="board", address=address)


def test_a_network_is_measured_by_a_second_process(board):
    found = nas.hardware.measure(GRAPH, board, plan=Plan(precision=None, processes=(3, 3), seconds=0.02, turns=3))
    assert 0 < found.low <= found.seconds <= found.high < 1
    assert found.device == board
    assert len(found.processes) == 3
    assert TOKEN not in json.dumps(found.to_dict())


def test_the_agent_says_who_it_is(board):
    assert Remote(board).about()["protocol"] == agent.PROTOCOL


def test_another_token_is_refused(board, monkeypatch):
    monkeypatch.setenv(agent.TOKEN_VARIABLE, TOKEN + "!")
    with pytest.raises(TrialError, match="not signed with this token"):
        Remote(board).about()


@pytest.mark.parametrize("token", ["", "short"])
def test_without_a_token_nothing_is_sent(board, monkeypatch, token):
    monkeypatch.setenv(agent.TOKEN_VARIABLE, token)
    with pytest.raises(InvalidInputError, match="set the environment variable NASTURTIUM_AGENT_TOKEN"):
        Remote(board)


def signed(method, path, body=b"", *, stamp=None, nonce="n", digest=None, token=TOKEN):
    import hashlib
    import time

    stamp = stamp or f"{time.time():.3f}"
    digest = digest or hashlib.sha256(body).hexdigest()
    parts = [part.encode() for part in (method, path, stamp, nonce, digest)]
    return {"X-Time": stamp, "X-Nonce": nonce, "X-Digest": digest, "X-Signature": agent.signature(token, *parts)}


def status(address, method, path, headers, body=b""):
    request = urllib.request.Request(address + path, data=body or None, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_what_is_not_signed_now_and_once_is_refused(address):
    assert status(address, "GET", "/about", {}) == 401
    assert status(address, "GET", "/about", signed("GET", "/about", stamp="1000.0")) == 401
    assert status(address, "GET", "/about", signed("GET", "/other", nonce="a")) == 401
    assert (
        status(address, "PUT", "/networks/" + "0" * 64, signed("PUT", "/networks/" + "0" * 64, b"x", nonce="b"), b"y")
        == 401
    )
    once = signed("GET", "/about", nonce="c")
    assert status(address, "GET", "/about", once) == 200
    assert status(address, "GET", "/about", once) == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/etc/passwd", b"", 404),
        ("GET", "/networks/../../etc/passwd", b"", 400),
        ("PUT", "/networks/" + "0" * 64, b"not that", 400),
        ("POST", "/process", b"{}", 400),
        ("POST", "/process", json.dumps({"networks": [], "reference": "0" * 64}).encode(), 404),
    ],
)
def test_what_makes_no_sense_is_refused(address, method, path, body, code):
    assert status(address, method, path, signed(method, path, body, nonce=path + str(code)), body) == code


def test_jobs_outside_the_bounds_are_refused(tmp_path):
    networks = agent.Networks(tmp_path)
    digest = "0" * 64
    networks.path(digest).write_bytes(b"")
    job = {"networks": [digest], "reference": digest, "threads": 1, "batch": 1, "turns": 2, "least": 1, "seconds": 1.0}
    assert networks.job({**job, "command": "rm"}).keys() == {*job, "cores"}
    for name, value in (("threads", 10_000), ("batch", 0), ("turns", 0), ("seconds", 1e6)):
        with pytest.raises(ValueError, match=name):
            networks.job({**job, name: value})


def test_the_oldest_networks_go_first(tmp_path, monkeypatch):
    import hashlib

    monkeypatch.setattr(agent, "KEPT_BYTES", 10)
    networks = agent.Networks(tmp_path)
    for i, body in enumerate((b"aaaa", b"bbbb", b"cccc")):
        digest = hashlib.sha256(body).hexdigest()
        networks.keep(digest, body)
        os.utime(networks.path(digest), (i, i))
    assert sorted(file.read_bytes() for file in tmp_path.iterdir()) == [b"bbbb", b"cccc"]


def test_nobody_listening_is_said(monkeypatch):
    monkeypatch.setenv(agent.TOKEN_VARIABLE, TOKEN)
    with pytest.raises(TrialError, match="cannot be reached"):
        Remote(nas.hardware.Device(name="off", address="http://127.0.0.1:9")).about()


def test_a_short_token_starts_no_agent(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(agent.TOKEN_VARIABLE, "short")
    assert agent.main(["serve"]) == 2
    assert "at least 16 characters" in capsys.readouterr().err
    with pytest.raises(ValueError, match="16 characters"):
        agent.Server(("127.0.0.1", 0), "short", tmp_path)
