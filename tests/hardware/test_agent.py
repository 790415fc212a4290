"""The agent: a real second process, and what it refuses."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
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
    stamp = stamp or f"{time.time():.3f}"
    digest = digest or hashlib.sha256(body).hexdigest()
    parts = [part.encode() for part in (method, path, stamp, nonce, digest, str(len(body)))]
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
    assert networks.known(digest)
    job = {"networks": [digest], "reference": digest, "threads": 1, "batch": 1, "turns": 2, "least": 1, "seconds": 1.0}
    assert networks.job({**job, "command": "rm"}).keys() == {*job, "cores"}
    for name, value in (("threads", 10_000), ("batch", 0), ("turns", 0), ("seconds", 1e6)):
        with pytest.raises(ValueError, match=name):
            networks.job({**job, name: value})


def keep(networks, body):
    digest = hashlib.sha256(body).hexdigest()
    received = networks.folder / "received"
    received.write_bytes(body)
    networks.keep(digest, received)
    return digest


def test_the_longest_unused_networks_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(agent, "KEPT_BYTES", 10)
    networks = agent.Networks(tmp_path)
    first = keep(networks, b"aaaa")
    second = keep(networks, b"bbbb")
    for i, digest in enumerate((first, second)):
        os.utime(networks.path(digest), (i, i))
    assert networks.known(first)  # a hit: now the second is the older one
    keep(networks, b"cccc")
    assert sorted(file.read_bytes() for file in tmp_path.iterdir()) == [b"aaaa", b"cccc"]
    assert not networks.known(second)
    keep(networks, b"cccc")  # the same again takes no more room
    assert sorted(file.read_bytes() for file in tmp_path.iterdir()) == [b"aaaa", b"cccc"]


@pytest.fixture
def near(tmp_path, monkeypatch):
    """An agent in this process: the server, and a client of it."""
    monkeypatch.setenv(agent.TOKEN_VARIABLE, TOKEN)
    server = agent.Server(("127.0.0.1", 0), TOKEN, tmp_path)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    device = nas.hardware.Device(name="near", address=f"http://127.0.0.1:{server.server_address[1]}")
    yield server, Remote(device)
    server.shutdown()
    thread.join()
    server.server_close()


def raw(server, text, *, end=True):
    """What the agent answers to raw bytes; `end` closes this side."""
    with socket.create_connection(server.server_address, timeout=20) as connection:
        connection.sendall(text)
        if end:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def head(method, path, headers, length):
    lines = [f"{method} {path} HTTP/1.0", *(f"{k}: {v}" for k, v in headers.items()), f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_nothing_is_read_of_what_is_not_signed(near):
    server, _ = near
    path = "/networks/" + "0" * 64
    # half a gigabyte is announced and none of it sent: the refusal comes at once, the body is not waited for
    wrong = {**signed("PUT", path), "X-Signature": "0" * 64}
    assert b" 401 " in raw(server, head("PUT", path, wrong, agent.LARGEST_BODY), end=False)
    # the length is signed too
    assert b"does not fit" in raw(server, head("PUT", path, signed("PUT", path, nonce="l"), 5), end=False)
    # a signature that is no ASCII is a wrong one
    assert b"does not fit" in raw(server, head("GET", "/about", {**signed("GET", "/about"), "X-Signature": "\xe9"}, 0))


def test_a_request_counts_as_used_before_its_body_came(near):
    server, _ = near
    body = b"a network"
    digest = hashlib.sha256(body).hexdigest()
    path = f"/networks/{digest}"
    once = head("PUT", path, signed("PUT", path, body), len(body))
    assert b"not the one that was signed" in raw(server, once + body[:3])  # cut: nothing is kept
    assert not server.networks.known(digest)
    assert b"was sent before" in raw(server, once + body)
    assert b" 200 " in raw(server, head("PUT", path, signed("PUT", path, body, nonce="m"), len(body)) + body)
    assert server.networks.path(digest).read_bytes() == body
    assert [file.name for file in server.networks.folder.iterdir()] == [f"{digest}.onnx"]


def test_silence_and_too_many_connections_end(near, monkeypatch):
    server, remote = near
    monkeypatch.setattr(agent.Handler, "timeout", 0.1)
    assert raw(server, b"GET /about HTTP/1.0\r\n", end=False) == b""
    for _ in range(agent.CONNECTIONS):
        server.places.acquire(timeout=5)
    with pytest.raises(TrialError, match="cannot be reached"):
        remote.about()
    for _ in range(agent.CONNECTIONS):
        server.places.release()
    assert remote.about()["versions"]["onnxruntime"]


@pytest.fixture
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    for name in ("network", "reference"):
        (folder / name).write_bytes(name.encode())
    names = {"networks": [str(folder / "network")], "reference": str(folder / "reference")}
    return {**names, "threads": 1, "batch": 1, "turns": 2, "least": 1, "seconds": 0.1}


def test_a_network_that_the_agent_dropped_is_sent_again(near, monkeypatch, job):
    server, remote = near
    monkeypatch.setattr(agent, "fresh_process", lambda command, job: {"ran": Path(job["networks"][0]).read_text()})
    assert remote.process(job) == {"ran": "network"}
    for file in server.networks.folder.glob("*.onnx"):
        file.unlink()
    assert remote.process(job) == {"ran": "network"}


def test_who_comes_second_waits_and_is_told_so_in_the_end(near, monkeypatch, job):
    from nasturtium.hardware import remote as client

    server, remote = near
    monkeypatch.setattr(agent, "fresh_process", lambda command, job: {"ran": True})
    monkeypatch.setattr(agent, "QUEUE", 0.01)
    monkeypatch.setattr(client, "PAUSE", 0.01)
    server.measuring.acquire()
    threading.Timer(0.1, server.measuring.release).start()
    assert remote.process(job) == {"ran": True}
    monkeypatch.setattr(client, "PATIENCE", 0.0)
    with server.measuring, pytest.raises(TrialError, match="another measurement is running"):
        remote.process(job)


def test_a_process_without_a_result_is_an_error_with_what_it_wrote():
    work = {"threads": 1, "networks": []}
    for code, said in (("", "''"), ("print('half a {')", "half a {"), ("print(5)", "'5")):
        with pytest.raises(RuntimeError, match="wrote no result") as caught:
            agent.fresh_process([sys.executable, "-c", code], work)
        assert said in str(caught.value)
    assert agent.fresh_process([sys.executable, "-c", "print('warning'); print('{}')"], work) == {}
    with pytest.raises(RuntimeError, match=r"more than 0\.05 s"):
        agent.fresh_process([sys.executable, "-c", "import time; time.sleep(9)"], work, timeout=0.05)


def test_the_time_a_process_may_take_grows_with_its_job():
    assert agent.allowed_seconds({"networks": ["a"], "seconds": 0.4}) == 676.0
    assert agent.allowed_seconds({"networks": ["a"] * 100, "seconds": 1.0}) == 10_600.0


@pytest.mark.parametrize("answer", [b"no HTTP\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nabc", b""])
def test_what_is_no_answer_is_said(answer, monkeypatch):
    monkeypatch.setenv(agent.TOKEN_VARIABLE, TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        device = nas.hardware.Device(name="odd", address=f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(TrialError, match=r"cannot be reached: (BadStatusLine|IncompleteRead|RemoteDisconnected)"):
            Remote(device).about()
        thread.join()


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
