"""The runner of one command, chosen and started when it is first needed.

What a probe found out is remembered in a file, by kernel, user and file system, because probing takes longer than most
commands of a build.
"""

import json
import threading
from typing import TYPE_CHECKING

from chimage_core.errors import FileError
from chimage_core.fs.atomic import write_file

if TYPE_CHECKING:
    # Imported where they are used: most builds hit, and run nothing.
    from chimage_core.runner.probe import Abilities
    from chimage_core.runner.protocol import Runner

_LONGEST_MEMORY = 1 << 20


class RunnerSupply:
    """Gives one runner; to be closed. Safe to use from several threads."""

    def __init__(self, kind: str, directory: str, memory: str) -> None:
        """`directory` is where overlays would be; `memory` is the file that remembers."""
        self._kind = kind
        self._directory = directory
        self._memory = memory
        self._lock = threading.RLock()
        self._runner: Runner | None = None
        self._can_overlay: bool | None = None

    def runner(self) -> "Runner":
        """Return the runner. Raises RunnerError, DependencyMissing, UsageError."""
        with self._lock:
            if self._runner is None:
                from chimage_core.runner.choose import choose
                from chimage_core.runner.namespace import NamespaceRunner

                abilities = self._remembered()
                self._runner = choose(self._kind, self._directory, abilities)
                if abilities is not None and isinstance(self._runner, NamespaceRunner):
                    self._can_overlay = abilities.overlay
            return self._runner

    def can_overlay(self) -> bool:
        """Return whether the runner can work on overlays in the directory."""
        with self._lock:
            runner = self.runner()
            if self._can_overlay is None:
                self._can_overlay = runner.can_overlay(self._directory)
            return self._can_overlay

    def close(self) -> None:
        """End the runner, if there is one. Idempotent."""
        if self._runner is not None:
            self._runner.close()

    def _remembered(self) -> "Abilities | None":
        """Return what is known of our own containers here, found out if need be; None where they are not wanted."""
        if self._kind not in ("auto", "python"):
            return None
        from chimage_core.runner import probe
        from chimage_core.runner.namespace import NamespaceRunner

        key = probe.key(self._directory)
        known = _read(self._memory)
        abilities = probe.Abilities.from_json(known.get(key))
        # A refusal may be cured by the administrator at any time: only what works is remembered.
        if abilities is None or not abilities.namespaces:
            runner = NamespaceRunner()
            try:
                abilities = runner.probe(self._directory)
            finally:
                runner.close()
            _write(self._memory, {**known, key: abilities.to_json()})
        return abilities


def _read(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            known = json.loads(file.read(_LONGEST_MEMORY))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(path: str, known: dict[str, object]) -> None:
    try:
        write_file(path, json.dumps(known, indent=1).encode("ascii"), sync=False)
    except (OSError, FileError):
        pass  # Then the next command probes again.
