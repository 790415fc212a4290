"""The client of an agent: the same measurement, with its processes on another machine."""

from __future__ import annotations

import hashlib
import hmac
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
from nasturtium.hardware.agent import PROTOCOL, SHORTEST_TOKEN, signature
from nasturtium.hardware.device import Device

TIMEOUT = 900.0
"""Seconds that one process of a measurement may take, the queue before it included."""


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

        Raises:
            TrialError: it cannot be reached, refuses, or the process failed.
        """
        sent = {
            **job,
            "networks": [self.send(Path(path)) for path in job["networks"]],
            "reference": self.send(Path(job["reference"])),
        }
        return self._ask("POST", "/process", json.dumps(sent).encode())

    def _ask(self, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
        stamp, nonce, digest = f"{time.time():.3f}", secrets.token_hex(16), hashlib.sha256(body).hexdigest()
        parts = [part.encode() for part in (method, path, stamp, nonce, digest)]
        headers = {
            "X-Time": stamp,
            "X-Nonce": nonce,
            "X-Digest": digest,
            "X-Signature": signature(self._token, *parts),
            "Content-Type": "application/octet-stream",
        }
        request = urllib.request.Request(self.address + path, data=body or None, headers=headers, method=method)  # noqa: S310  (a device's address is http or https)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                status, text, signed = answer.status, answer.read(), answer.headers.get("X-Signature", "")
        except urllib.error.HTTPError as error:
            with error:
                status, text, signed = error.code, error.read(), error.headers.get("X-Signature", "")
        except OSError as error:
            raise TrialError(
                f"The agent of {self.device.name!r} at {self.address} cannot be reached: {error}. "
                "Is it running (`nasturtium agent serve`), and is the port open?",
                "worker",
            ) from error
        return self._checked(status, text, signed, nonce, path)

    def _checked(self, status: int, text: bytes, signed: str, nonce: str, path: str) -> dict[str, Any]:
        """The answer, once it is known to be the agent's."""
        if not hmac.compare_digest(signature(self._token, str(status).encode(), nonce.encode(), text), signed):
            raise TrialError(
                f"The answer from {self.address} to {path} ({status}) is not signed with this token: the tokens differ "
                f"({self.device.token_variable}), or something else listens there.",
                "worker",
            )
        answer = json.loads(text)
        if status != 200:
            raise TrialError(f"The agent of {self.device.name!r} says to {path}: {answer['error']}.", "worker")
        return answer
