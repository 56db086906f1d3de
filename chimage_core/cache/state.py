"""Identity of a state: which steps lead to it."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StateID:
    """The chain of steps to a state. File content is deliberately no part of it, because a lookup must not read the
    image; only where a chain starts (an imported or pulled image) does the content count.
    """

    value: bytes
    """32 bytes."""

    def __post_init__(self) -> None:
        if len(self.value) != 32:
            raise ValueError(f"a state ID has 32 bytes, not {len(self.value)}")

    @classmethod
    def root(cls, key: bytes) -> "StateID":
        """Return the state where a chain starts, described by `key`."""
        return cls(hashlib.sha256(b"root\0" + key).digest())

    @classmethod
    def from_hex(cls, text: str) -> "StateID":
        """Return the state with this hexadecimal form. Raises ValueError."""
        return cls(bytes.fromhex(text))

    def child(self, key: bytes) -> "StateID":
        """Return the state reached from this one by the step described by `key`."""
        return StateID(hashlib.sha256(self.value + key).digest())

    @property
    def hex(self) -> str:
        """The 64-digit form that users see (or its beginning)."""
        return self.value.hex()
