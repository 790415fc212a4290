"""Measures ONNX networks on the machine where it runs: one file that needs Python, numpy and ONNX Runtime only.

Copy this file to the device, and run it there:

```text
export NASTURTIUM_AGENT_TOKEN=...          # the same secret on both machines
python agent.py serve --host 0.0.0.0 --port 8420
```

It never imports the rest of the library, which uses it on the own machine too: `python agent.py work JOB` is one fresh
process of a measurement. Every request and every answer carries an HMAC-SHA256 of its contents under the token, which
itself never travels. A request is good once, and only while its time and the agent's clock differ by at most two
minutes: for up to four where the other clock runs ahead. An agent that is started again forgets which requests it has
seen. Networks are not encrypted on their way: across a network that you do not trust, go through an SSH tunnel.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import hmac
import json
import os
import platform
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

try:
    import resource
except ImportError:  # Windows does not count switches
    resource = None  # type: ignore[assignment]

PROTOCOL = 2
PORT = 8420
TOKEN_VARIABLE = "NASTURTIUM_AGENT_TOKEN"  # noqa: S105  (the name of a variable, no secret)
FRESH_SECONDS = 120.0
"""How far the time of a request may lie from this machine's clock, before or after."""
LARGEST_BODY = 512 << 20
"""Bytes of the largest network that is taken."""
PIECE = 1 << 20
"""Bytes of a body that are in memory at once."""
CONNECTIONS = 32
"""At once; more are closed unanswered."""
SILENCE = 30.0
"""Seconds without a byte after which a connection is closed."""
QUEUE = 10.0
"""Seconds that a request waits for another's measurement to end, before it is told that the agent is busy."""
KEPT_BYTES = 2 << 30
"""Bytes of networks that are kept; the oldest go first."""
SHORTEST_TOKEN = 16

Run = Callable[[], object]
Sample = tuple[int, int, int]
"""Wall-clock nanoseconds, the process's processor nanoseconds, and how often the system took the core away."""


# Timing: used by every runtime.


def sample(run: Run) -> Sample:
    """Time one run."""
    switches = -1 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    processor = time.process_time_ns()
    begin = time.perf_counter_ns()
    run()
    wall = time.perf_counter_ns() - begin
    processor = time.process_time_ns() - processor
    after = 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    return wall, processor, after - switches if resource is not None else 0


def block(run: Run, seconds: float, least: int) -> list[Sample]:
    """Time runs one after the other, after one that is not counted (it fills the caches again).

    It ends after `seconds` of the process's own time (ten times as many on the clock), and at least `least` runs.
    """
    run()
    samples = [sample(run) for _ in range(least)]
    end, processor_end = time.perf_counter() + 10 * seconds, time.process_time() + seconds
    while time.perf_counter() < end and time.process_time() < processor_end:
        samples.append(sample(run))
    return samples


def is_settled(times: Sequence[float], share: float = 0.05) -> bool:
    """Whether the last third of a series is no faster than the third before it, by more than a share of it.

    Compared are lower quartiles, which disturbances leave alone.
    """
    third = len(times) // 3
    if third < 3:
        return False
    before, last = (sorted(part)[third // 4] for part in (times[-2 * third : -third], times[-third:]))
    return last >= before * (1 - share)


def warm_up(run: Run, *, least: float, most: float) -> tuple[int, bool]:
    """Run until the times have settled; returns the number of runs and whether they have.

    Args:
        run: One inference.
        least: Seconds that it takes at least.
        most: Seconds after which it gives up.
    """
    begin = time.perf_counter()
    times: list[float] = []
    while True:
        times.append(sample(run)[1])
        passed = time.perf_counter() - begin
        if passed >= least and is_settled(times):
            return len(times), True
        if passed >= most and len(times) >= 3:
            return len(times), False


def in_turns(run: Run, reference: Run, job: Mapping[str, Any]) -> dict[str, Any]:
    """Time a network and the reference kernel in turns: reference, network, reference, ..., reference.

    Returns:
        "network": a block of samples for each turn; "reference": one block more; "warm_up": runs; "settled".
    """
    turns, seconds = int(job["turns"]), float(job["seconds"])
    runs, settled = warm_up(run, least=seconds / 4, most=max(2.0, 4 * seconds))
    warm_up(reference, least=0.0, most=0.5)
    network, references = [], [block(reference, seconds / turns / 2, 5)]
    for _ in range(turns):
        network.append(block(run, seconds / turns, int(job["least"])))
        references.append(block(reference, seconds / turns / 2, 5))
    return {"network": network, "reference": references, "warm_up": runs, "settled": settled}


def pin(threads: int, cores: Sequence[int] | None = None) -> list[int]:
    """Bind this process to as many cores as it has threads; returns them, none where the system cannot.

    Without cores, a process takes those that its number gives, so that processes go over all of them in turn.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    allowed = sorted(os.sched_getaffinity(0))
    if cores is None:
        first = os.getpid() % len(allowed)
        cores = [allowed[(first + i) % len(allowed)] for i in range(min(threads, len(allowed)))]
    os.sched_setaffinity(0, cores)
    return sorted(cores)


def processor() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def circumstances(cores: Sequence[int], versions: Mapping[str, str]) -> dict[str, Any]:
    """Where and when: what is stored beside the times."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "machine": processor(),
        "cores": list(cores),
        "load": load,
        "versions": {"python": platform.python_version(), **versions},
    }


# ONNX Runtime


def session_run(path: str, threads: int, batch: int) -> Run:
    """One inference of an ONNX file on random inputs of its shapes; free axes take the batch."""
    import onnxruntime  # noqa: PLC0415  (this file's timing serves processes that do without)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    given = {}
    for spec in session.get_inputs():
        shape = [size if isinstance(size, int) else batch for size in spec.shape]
        values = rng.standard_normal(shape).astype(np.float32)
        given[spec.name] = values if spec.type == "tensor(float)" else values.astype(np.int64)
    return lambda: session.run(None, given)


def work(job: Mapping[str, Any]) -> dict[str, Any]:
    """One fresh process: times each of the job's networks in turns with the reference.

    Args:
        job: "networks" and "reference" (files), "threads", "batch", "turns", "seconds" (of each network), "least"
            (runs of a turn), "cores" (None for those of the process's number).
    """
    import onnxruntime  # noqa: PLC0415

    cores = pin(job["threads"], job.get("cores"))
    reference = session_run(job["reference"], job["threads"], 1)
    results = []
    for path in job["networks"]:
        run = session_run(path, job["threads"], job["batch"])
        results.append(in_turns(run, reference, job))
        del run
    return {
        **circumstances(cores, {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__}),
        "results": results,
    }


def about() -> dict[str, Any]:
    """What the agent says of its machine: a profile is of one processor and one version of the runtime."""
    import onnxruntime  # noqa: PLC0415

    versions = {"python": platform.python_version(), "onnxruntime": onnxruntime.__version__, "numpy": np.__version__}
    return {"protocol": PROTOCOL, "machine": processor(), "cores": os.cpu_count(), "versions": versions}


# Signed HTTP


def signature(token: str, *parts: bytes) -> str:
    """HMAC-SHA256 of the parts, each with its length, in hexadecimal."""
    mac = hmac.new(token.encode(), digestmod=hashlib.sha256)
    for part in parts:
        mac.update(len(part).to_bytes(8, "big"))
        mac.update(part)
    return mac.hexdigest()


class BusyError(Exception):
    """Another measurement is running."""


class Networks:
    """Networks that were sent, in a folder, under the SHA-256 of their contents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def path(self, digest: str) -> Path:
        """Where a network lies, or would lie."""
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ValueError(f"a network is named by 64 hexadecimal digits, got {digest!r}")
        return self.folder / f"{digest}.onnx"

    def known(self, digest: str) -> bool:
        """Whether a network is here; then it counts as used now."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def keep(self, digest: str, received: Path) -> None:
        """Take a network over from a file of this folder, whole or not at all; the longest unused make room.

        Args:
            digest: SHA-256 of the file's contents, which the caller has checked.
            received: The file; it is moved.
        """
        target = self.path(digest)
        with self._lock:
            sizes = {file: file.stat().st_size for file in self.folder.glob("*.onnx") if file != target}
            files = sorted(sizes, key=lambda file: file.stat().st_mtime)
            while files and sum(sizes.values()) + received.stat().st_size > KEPT_BYTES:
                sizes.pop(files[0])
                files.pop(0).unlink()
            received.replace(target)
            os.utime(target)

    def job(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The job with files instead of digests; only known fields, within bounds."""
        digests = [*asked["networks"], asked["reference"]]
        missing = [digest for digest in digests if not self.known(digest)]
        if missing:
            raise LookupError(f"network {missing[0]} was not sent")
        bounds = {"threads": (1, os.cpu_count() or 1), "batch": (1, 4096), "turns": (1, 1000), "least": (1, 10_000)}
        job: dict[str, Any] = {"cores": None}
        for name, (low, high) in bounds.items():
            if not low <= int(asked[name]) <= high:
                raise ValueError(f"{name!r} must be in [{low}, {high}] on this machine, got {asked[name]!r}")
            job[name] = int(asked[name])
        if not 0.0 < float(asked["seconds"]) <= 60.0:
            raise ValueError(f"'seconds' must be in (0, 60], got {asked['seconds']!r}")
        paths = [str(self.path(digest)) for digest in digests]
        return {**job, "seconds": float(asked["seconds"]), "networks": paths[:-1], "reference": paths[-1]}


def allowed_seconds(job: Mapping[str, Any]) -> float:
    """After which a process of a job is given up: ten minutes, and for each network one and 40 times its seconds."""
    return 600.0 + len(job["networks"]) * (60.0 + 40.0 * float(job.get("seconds", 0.0)))


def fresh_process(command: Sequence[str], job: Mapping[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
    """Run a command with a job on its standard input; the last line of its standard output is JSON.

    Args:
        command: Of the process.
        job: See `work`.
        timeout: Seconds; None for `allowed_seconds(job)`.

    Raises:
        RuntimeError: it failed, was killed, took too long, or wrote no result; the message ends with what it wrote.
    """
    timeout = allowed_seconds(job) if timeout is None else timeout
    environment = {**os.environ, **{f"{name}_NUM_THREADS": str(job["threads"]) for name in ("OMP", "MKL", "OPENBLAS")}}
    try:
        done = subprocess.run(  # noqa: S603  (this very file, or one of the library's modules)
            list(command), input=json.dumps(job), capture_output=True, text=True, timeout=timeout, env=environment,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"a process of the measurement took more than {timeout:g} s") from error
    if done.returncode != 0:
        raise RuntimeError(f"a process of the measurement ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    try:
        found = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        found = None
    if not isinstance(found, dict):
        said = (done.stdout + done.stderr).strip()[-1000:]
        raise RuntimeError(f"a process of the measurement wrote no result, but {said!r}")  # noqa: TRY004
    return found


def own_command() -> list[str]:
    """The command of one fresh process of this file."""
    return [sys.executable, str(Path(__file__).resolve()), "work"]


class Server(ThreadingHTTPServer):
    """Answers signed requests; measures one job at a time."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], token: str, folder: Path) -> None:
        if len(token) < SHORTEST_TOKEN:
            raise ValueError(f"the token must have at least {SHORTEST_TOKEN} characters, got {len(token)}")
        super().__init__(address, Handler)
        self.token = token
        self.networks = Networks(folder)
        self.measuring = threading.Lock()
        self.seen: dict[str, float] = {}
        self.seen_lock = threading.Lock()
        self.places = threading.BoundedSemaphore(CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, unless too many are connected."""
        if not self.places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self.places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, then make room for another connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def is_new(self, nonce: str, now: float) -> bool:
        """Whether a request's number was not used before; remembers it."""
        with self.seen_lock:
            self.seen = {n: t for n, t in self.seen.items() if now - t < 2 * FRESH_SECONDS}
            if nonce in self.seen:
                return False
            self.seen[nonce] = now
            return True


class Handler(BaseHTTPRequestHandler):
    """The protocol: GET /about, GET and PUT /networks/DIGEST, POST /process."""

    server: Server
    timeout = SILENCE

    def do_GET(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write nothing for each request."""

    def _handle(self) -> None:
        nonce = self.headers.get("X-Nonce", "")
        length = self._authenticated(nonce)
        if length is None:
            return
        try:
            with tempfile.TemporaryDirectory(dir=self.server.networks.folder) as folder:
                body = Path(folder) / "body"
                if self._received(body, length, nonce):
                    self._respond(body, nonce)
        except TimeoutError:
            raise
        except OSError as error:  # no room for the body
            self._answer(500, {"error": str(error)}, nonce)

    def _respond(self, body: Path, nonce: str) -> None:
        try:
            self._answer(200, self._act(body), nonce)
        except BusyError as error:
            self._answer(503, {"error": str(error)}, nonce)
        except (ValueError, KeyError, TypeError) as error:
            self._answer(400, {"error": f"{type(error).__name__}: {error}"}, nonce)
        except LookupError as error:
            self._answer(404, {"error": str(error)}, nonce)
        except (RuntimeError, OSError, ImportError) as error:
            self._answer(500, {"error": str(error)}, nonce)

    def _authenticated(self, nonce: str) -> int | None:
        """The length of the body of a request that was signed with the token, or None after the refusal.

        Nothing of the body is read before the signature, which covers its length and digest, is checked.
        """
        stated = self.headers.get("Content-Length", "0")
        try:
            length, sent = int(stated), float(self.headers.get("X-Time", "nan"))
        except ValueError:
            length, sent = -1, float("nan")
        if not 0 <= length <= LARGEST_BODY:
            self._answer(413, {"error": f"a body may have up to {LARGEST_BODY} bytes"}, nonce)
            return None
        now = time.time()
        if not abs(now - sent) <= FRESH_SECONDS:
            self._answer(401, {"error": f"not signed, or the clocks differ by more than {FRESH_SECONDS:g} s"}, nonce)
            return None
        stamp, digest = self.headers.get("X-Time", ""), self.headers.get("X-Digest", "")
        parts = [part.encode() for part in (self.command, self.path, stamp, nonce, digest, stated)]
        given = self.headers.get("X-Signature", "").encode()
        if not hmac.compare_digest(signature(self.server.token, *parts).encode(), given):
            text = "the signature does not fit: are the token and the version of `agent.py` the same on both machines?"
            self._answer(401, {"error": text}, nonce)
            return None
        if not self.server.is_new(nonce, now):
            self._answer(401, {"error": "this request was sent before"}, nonce)
            return None
        return length

    def _received(self, body: Path, length: int, nonce: str) -> bool:
        """Read the body into a file; whether it is the one that was signed, else after the refusal."""
        seen = hashlib.sha256()
        with body.open("wb") as stream:
            while length > 0:
                piece = self.rfile.read(min(length, PIECE))
                if not piece:
                    break
                seen.update(piece)
                stream.write(piece)
                length -= len(piece)
        if length == 0 and hmac.compare_digest(seen.hexdigest().encode(), self.headers.get("X-Digest", "").encode()):
            return True
        self._answer(401, {"error": "the body is not the one that was signed"}, nonce)
        return False

    def _act(self, body: Path) -> dict[str, Any]:
        networks = self.server.networks
        if self.command == "GET" and self.path == "/about":
            return about()
        if self.path.startswith("/networks/"):
            digest = self.path.removeprefix("/networks/")
            if self.command == "PUT":
                if self.headers.get("X-Digest", "") != digest:
                    raise ValueError("the network does not have the digest that it was sent under")
                networks.keep(digest, body)
            return {"known": networks.known(digest)}
        if self.command == "POST" and self.path == "/process":
            job = networks.job(json.loads(body.read_bytes()))
            if not self.server.measuring.acquire(timeout=QUEUE):
                raise BusyError("another measurement is running")
            try:
                return fresh_process(own_command(), job)
            finally:
                self.server.measuring.release()
        raise LookupError(f"no {self.command} {self.path}")

    def _answer(self, status: int, value: Mapping[str, Any], nonce: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Signature", signature(self.server.token, str(status).encode(), nonce.encode(), body))
        if status in {401, 413}:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)
        if status in {401, 413}:
            self._drain()

    def _drain(self) -> None:
        """Read a little of what was refused: closing a connection over unread bytes would take the answer back."""
        with contextlib.suppress(OSError):
            self.connection.settimeout(1.0)
            self.connection.shutdown(socket.SHUT_WR)
            for _ in range(16):
                if not self.connection.recv(65536):
                    break


def serve(host: str, port: int, token: str, *, ready: Callable[[int], None] | None = None) -> None:
    """Answer until interrupted.

    Args:
        host: Address to listen on; "127.0.0.1" takes connections of this machine alone.
        port: 0 for any free one.
        token: The secret that both machines know, of at least `SHORTEST_TOKEN` characters.
        ready: Called with the port once it listens.
    """
    with tempfile.TemporaryDirectory(prefix="nasturtium-agent-") as folder:
        server = Server((host, port), token, Path(folder))
        if ready is not None:
            ready(server.server_address[1])
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            server.server_close()


def main(arguments: Sequence[str] | None = None) -> int:
    """`work`: one process of a measurement, job on standard input. `serve`: the agent. `token`: a fresh secret."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("work")
    commands.add_parser("token")
    serving = commands.add_parser("serve")
    serving.add_argument("--host", default="127.0.0.1")
    serving.add_argument("--port", type=int, default=PORT)
    serving.add_argument("--token-variable", default=TOKEN_VARIABLE)
    given = parser.parse_args(arguments)
    if given.command == "work":
        print(json.dumps(work(json.loads(sys.stdin.read()))))  # noqa: T201
        return 0
    if given.command == "token":
        print(secrets.token_urlsafe(32))  # noqa: T201
        return 0
    token = os.environ.get(given.token_variable, "")
    if len(token) < SHORTEST_TOKEN:
        text = f"Set {given.token_variable} to a secret of at least {SHORTEST_TOKEN} characters (`agent.py token`)."
        print(text, file=sys.stderr)  # noqa: T201
        return 2
    serve(given.host, given.port, token, ready=lambda port: print(f"Listening on {given.host}:{port}.", flush=True))  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
