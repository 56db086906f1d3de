"""Cache keys: what the state after an instruction depends on, as bytes."""

import json
from typing import Any


def key(*parts: Any) -> bytes:
    """Return bytes that are equal only for equal parts: strings, numbers, None, and lists of these."""
    return json.dumps(parts, separators=(",", ":")).encode("ascii")
