"""What compiled libraries write to standard error, past Python."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def captured_stderr() -> Iterator[IO[bytes]]:
    """Send what C code writes to standard error to a file while the block runs."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as stream:
        kept = os.dup(2)
        os.dup2(stream.fileno(), 2)
        try:
            yield stream
        finally:
            os.dup2(kept, 2)
            os.close(kept)
