"""Identity of a state: which steps lead to it."""

import hashlib
from typing import NamedTuple


class StateID(NamedTuple):
    """The chain of steps to a state. File content is deliberately no part of it, because a lookup must not read the
    image; only where a chain starts (an imported or pulled image) does the content count.
    """

    value: bytes
    """32 bytes."""

    @classmethod
    def root(cls, key: bytes) -> "StateID":
        """Return the state where a chain starts, described by `key`."""
        return cls(hashlib.sha256(b"root\0" + key).digest())

    @classmethod
    def from_hex(cls, text: str) -> "StateID":
        """Return the state with this hexadecimal form. Raises ValueError."""
        value = bytes.fromhex(text)
        if len(value) != 32:
            raise ValueError(f"a state ID has 32 bytes, not {len(value)}")
        return cls(value)

    def child(self, key: bytes) -> "StateID":
        """Return the state reached from this one by the step described by `key`."""
        return StateID(hashlib.sha256(self.value + key).digest())

    @property
    def hex(self) -> str:
        """The 64-digit form that users see (or its beginning)."""
        return self.value.hex()
