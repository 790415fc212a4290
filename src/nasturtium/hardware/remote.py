"""The client of an agent: the same measurement, with its processes on another machine."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.hardware.agent import PROTOCOL, SHORTEST_TOKEN, allowed_seconds, signature
from nasturtium.hardware.device import Device

TIMEOUT = 120.0
"""Seconds to wait for an answer, beside those that the process of a measurement is allowed."""
PATIENCE = 3600.0
"""Seconds to wait for an agent that measures for others."""
PAUSE = 1.0
"""Seconds between two requests to an agent that is busy."""
BUSY, MISSING = http.client.SERVICE_UNAVAILABLE, http.client.NOT_FOUND


class Remote:
    """An agent at a device's address.

    Args:
        device: With an `address`; its token is read from the environment variable that the device names.

    Raises:
        InvalidInputError: the device has no address, or the variable holds no token.
    """

    def __init__(self, device: Device) -> None:
        if device.address is None:
            raise InvalidInputError(f"Device {device.name!r} has no `address`: it is this machine.")
        token = os.environ.get(device.token_variable, "")
        if len(token) < SHORTEST_TOKEN:
            raise InvalidInputError(
                f"Device {device.name!r} is measured by an agent: set the environment variable "
                f"{device.token_variable} to the agent's token (at least {SHORTEST_TOKEN} characters)."
            )
        self.device = device
        self.address = device.address.rstrip("/")
        self._token = token
        self._sent: dict[Path, str] = {}

    def about(self) -> dict[str, Any]:
        """What the agent says of its machine.

        Raises:
            TrialError: it cannot be reached, refuses, or speaks another protocol.
        """
        answer = self._ask("GET", "/about")
        if answer.get("protocol") != PROTOCOL:
            raise TrialError(
                f"The agent at {self.address} speaks protocol {answer.get('protocol')!r}, this library {PROTOCOL}: "
                "copy this version's `agent.py` there."
            )
        return answer

    def send(self, path: Path) -> str:
        """Hand a network over, unless the agent has it; returns the name under which it keeps it."""
        if path not in self._sent:
            body = path.read_bytes()
            digest = hashlib.sha256(body).hexdigest()
            if not self._ask("GET", f"/networks/{digest}")["known"]:
                self._ask("PUT", f"/networks/{digest}", body)
            self._sent[path] = digest
        return self._sent[path]

    def process(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Run one fresh process of a measurement there; see `agent.work` for the job and the result.

        Networks that the agent has dropped meanwhile (it keeps the last used ones) are sent again, once.

        Raises:
            TrialError: it cannot be reached, refuses, measures for others for over an hour, or the process failed.
        """
        patience, sent_again = time.monotonic() + PATIENCE, False
        while True:
            names = [self.send(Path(path)) for path in job["networks"]]
            asked = {**job, "networks": names, "reference": self.send(Path(job["reference"]))}
            status, answer = self._exchange(
                "POST", "/process", json.dumps(asked).encode(), timeout=TIMEOUT + allowed_seconds(job)
            )
            if status == BUSY and time.monotonic() < patience:
                time.sleep(PAUSE)
            elif status == MISSING and not sent_again:
                sent_again = True
                self._sent.clear()
            else:
                return self._good(status, answer, "/process")

    def _ask(self, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
        status, answer = self._exchange(method, path, body)
        return self._good(status, answer, path)

    def _good(self, status: int, answer: dict[str, Any], path: str) -> dict[str, Any]:
        if status != http.client.OK:
            raise TrialError(f"The agent of {self.device.name!r} says to {path}: {answer['error']}.", "worker")
        return answer

    def _exchange(
        self, method: str, path: str, body: bytes = b"", *, timeout: float = TIMEOUT
    ) -> tuple[int, dict[str, Any]]:
        """Status and answer of a signed request; the answer is known to be the agent's."""
        stamp, nonce, digest = f"{time.time():.3f}", secrets.token_hex(16), hashlib.sha256(body).hexdigest()
        parts = [part.encode() for part in (method, path, stamp, nonce, digest, str(len(body)))]
        headers = {
            "X-Time": stamp,
            "X-Nonce": nonce,
            "X-Digest": digest,
            "X-Signature": signature(self._token, *parts),
            "Content-Type": "application/octet-stream",
        }
        request = urllib.request.Request(self.address + path, data=body or None, headers=headers, method=method)  # noqa: S310  (a device's address is http or https)
        try:
            status, text, signed = self._sent_request(request, timeout)
        except (OSError, http.client.HTTPException) as error:
            raise TrialError(
                f"The agent of {self.device.name!r} at {self.address} cannot be reached: "
                f"{type(error).__name__}: {error}. Is it running (`nasturtium agent serve`), and is the port open?",
                "worker",
            ) from error
        return status, self._checked(status, text, signed, nonce, path)

    @staticmethod
    def _sent_request(request: urllib.request.Request, timeout: float) -> tuple[int, bytes, str]:
        """Status, body and signature of the answer."""
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
                return answer.status, answer.read(), answer.headers.get("X-Signature", "")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers.get("X-Signature", "")

    def _checked(self, status: int, text: bytes, signed: str, nonce: str, path: str) -> dict[str, Any]:
        """The answer, once it is known to be the agent's."""
        expected = signature(self._token, str(status).encode(), nonce.encode(), text)
        if not hmac.compare_digest(expected.encode(), signed.encode()):
            raise TrialError(
                f"The answer from {self.address} to {path} ({status}) is not signed with this token: the tokens differ "
                f"({self.device.token_variable}), or something else listens there.",
                "worker",
            )
        answer: dict[str, Any] = json.loads(text)
        return answer
