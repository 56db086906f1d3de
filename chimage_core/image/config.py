"""The image configuration: what an image says about how to run and to extend it.

One value serves three forms: `/ch/metadata.json` inside an unpacked image (the keys of Charliecloud, plus ours), the
`config.json` of the build cache (the same form), and later the OCI image configuration of a registry.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

DEFAULT_SHELL = ("/bin/sh", "-c")

_NOTHING: Mapping[str, str] = MappingProxyType({})


class ImageConfig(NamedTuple):
    """Settings of an image. Mappings are never changed; `_replace` makes the next value."""

    architecture: str
    """As in image indexes: `amd64`, `arm64`, `arm`, …"""
    env: Mapping[str, str] = _NOTHING
    args: Mapping[str, str] = _NOTHING
    """ARG values: visible to descendants built here, never pushed."""
    workdir: str = "/"
    shell: tuple[str, ...] = DEFAULT_SHELL
    labels: Mapping[str, str] = _NOTHING
    volumes: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    """None: not set."""
    cmd: tuple[str, ...] | None = None
    user: str = ""
    author: str = ""
    ports: tuple[str, ...] = ()
    stop_signal: str = ""
    healthcheck: Mapping[str, Any] | None = None
    """The `Healthcheck` object of the OCI/Docker configuration, as it stands."""
    onbuild: tuple[str, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    """OCI history entries, oldest first, as they stand."""

    def to_json(self) -> bytes:
        """Return the `metadata.json` form: equal values give equal bytes."""
        document: dict[str, Any] = {
            "arch": self.architecture,
            "arg": dict(self.args),
            "cwd": self.workdir,
            "env": dict(self.env),
            "history": [dict(entry) for entry in self.history],
            "labels": dict(self.labels),
            "shell": list(self.shell),
            "volumes": list(self.volumes),
        }
        # Keys that Charliecloud does not know are written only when they say something.
        optional: dict[str, Any] = {
            "entrypoint": None if self.entrypoint is None else list(self.entrypoint),
            "cmd": None if self.cmd is None else list(self.cmd),
            "user": self.user or None,
            "author": self.author or None,
            "ports": list(self.ports) or None,
            "stop_signal": self.stop_signal or None,
            "healthcheck": None if self.healthcheck is None else dict(self.healthcheck),
            "onbuild": list(self.onbuild) or None,
        }
        document.update((key, value) for key, value in optional.items() if value is not None)
        return json.dumps(document, indent=2, sort_keys=True).encode("ascii") + b"\n"

    @classmethod
    def from_json(cls, data: bytes, *, architecture: str) -> "ImageConfig":
        """Read the `metadata.json` form; missing keys get defaults, `architecture` is the default of `arch`.

        Raises ValueError, saying which key is wrong, for anything that is not of that form.
        """
        document = json.loads(data)
        if not isinstance(document, dict):
            raise ValueError("not a JSON object")
        history = _get(document, "history", list, [])
        if not all(isinstance(entry, dict) for entry in history):
            raise ValueError("key history: expected a list of objects")
        return cls(
            architecture=_get(document, "arch", str, architecture),
            # Charliecloud writes null for a proxy variable that is not set.
            args=_strings(document, "arg", skip_null=True),
            env=_strings(document, "env", skip_null=True),
            labels=_strings(document, "labels"),
            workdir=_get(document, "cwd", str, "/"),
            shell=_words(document, "shell") or DEFAULT_SHELL,
            volumes=_words(document, "volumes") or (),
            entrypoint=_words(document, "entrypoint"),
            cmd=_words(document, "cmd"),
            user=_get(document, "user", str, ""),
            author=_get(document, "author", str, ""),
            ports=_words(document, "ports") or (),
            stop_signal=_get(document, "stop_signal", str, ""),
            healthcheck=_get(document, "healthcheck", dict, None),
            onbuild=_words(document, "onbuild") or (),
            history=tuple(history),
        )


def _get(document: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = document.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise ValueError(f"key {key}: expected {kind.__name__}, not {type(value).__name__}")
    return value


def _strings(document: dict[str, Any], key: str, *, skip_null: bool = False) -> dict[str, str]:
    mapping = _get(document, key, dict, {})
    result = {name: value for name, value in mapping.items() if not (skip_null and value is None)}
    for name, value in result.items():
        if not isinstance(value, str):
            raise ValueError(f"key {key}.{name}: expected a string, not {type(value).__name__}")
    return result


def _words(document: dict[str, Any], key: str) -> tuple[str, ...] | None:
    words = _get(document, key, list, None)
    if words is None:
        return None
    if not all(isinstance(word, str) for word in words):
        raise ValueError(f"key {key}: expected a list of strings")
    return tuple(words)
