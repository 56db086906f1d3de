"""Image configurations as OCI and Docker have them: what a registry, an OCI layout or a docker-archive says.

Equal configurations give equal bytes, so that equal images have equal digests. What OCI does not know (SHELL, ONBUILD,
HEALTHCHECK) stands where Docker has it; ARG values are never written.
Sources: OCI image-spec v1.1, config.md; Docker image specification v1.3.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from chimage_core.image.config import DEFAULT_SHELL, ImageConfig
from chimage_core.image.digest import Digest
from chimage_core.image.platform import Platform

_MOST_LAYERS = 4096


class OciConfig(NamedTuple):
    """An image configuration, and the layers that it is about."""

    config: ImageConfig
    diff_ids: tuple[Digest, ...]
    """Digests of the plain layers, lowest first."""


def to_oci(config: ImageConfig, diff_ids: Sequence[Digest], *, created: int = 0) -> bytes:
    """Return the configuration of an image of these layers, lowest first. `created`: s since the epoch."""
    architecture, _, variant = config.architecture.partition("/")
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created))
    document: dict[str, Any] = {
        "architecture": architecture,
        "variant": variant,
        "os": "linux",
        "author": config.author,
        "created": moment,
        "config": _without_nothing(_settings(config)),
        "rootfs": {"type": "layers", "diff_ids": list(map(str, diff_ids))},
        "history": fitting_history(config.history, len(diff_ids), moment),
    }
    return json.dumps(_without_nothing(document), sort_keys=True, separators=(",", ":")).encode("ascii")


def from_oci(data: bytes) -> OciConfig:
    """Read a configuration. Raises ValueError, saying which key is wrong, for what is none, or is not for Linux."""
    try:
        document = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    system = _get(document, "os", str, "linux") or "linux"
    if system != "linux":
        raise ValueError(f"image is for {system}, not for linux")
    settings = _get(document, "config", dict, {})
    config = ImageConfig(
        architecture=_architecture(document),
        env=_environment(settings),
        workdir=_get(settings, "WorkingDir", str, "") or "/",
        shell=_words(settings, "Shell") or DEFAULT_SHELL,
        labels=_labels(settings),
        volumes=tuple(sorted(_get(settings, "Volumes", dict, {}))),
        entrypoint=_words(settings, "Entrypoint") or None,
        cmd=_words(settings, "Cmd") or None,
        user=_get(settings, "User", str, ""),
        author=_get(document, "author", str, ""),
        ports=tuple(sorted(_get(settings, "ExposedPorts", dict, {}))),
        stop_signal=_get(settings, "StopSignal", str, ""),
        healthcheck=_get(settings, "Healthcheck", dict, None),
        onbuild=_words(settings, "OnBuild") or (),
        history=_objects(document, "history"),
    )
    return OciConfig(config, _diff_ids(_get(document, "rootfs", dict, {})))


def fitting_history(
    history: Sequence[Mapping[str, Any]], layers: int, moment: str = "1970-01-01T00:00:00Z"
) -> list[dict[str, Any]]:
    """Return the history with as many entries that have a layer as there are layers: some registries count them.

    Of those that have one, the last keep it: what was flattened into one layer was last changed by them. `moment` is
    the time of entries that have to be added.
    """
    spare = sum(not entry.get("empty_layer") for entry in history) - layers
    fitted = []
    for entry in history:
        is_empty = bool(entry.get("empty_layer"))
        if not is_empty and spare > 0:
            spare -= 1
            is_empty = True
        fitted.append({key: value for key, value in entry.items() if key != "empty_layer"})
        if is_empty:
            fitted[-1]["empty_layer"] = True
    return fitted + [{"created": moment, "created_by": "chimage"} for _ in range(-spare)]


def _settings(config: ImageConfig) -> dict[str, Any]:
    return {
        "Env": [f"{name}={value}" for name, value in sorted(config.env.items())],
        "WorkingDir": config.workdir,
        "Shell": None if config.shell == DEFAULT_SHELL else list(config.shell),
        "Labels": dict(config.labels),
        "Volumes": {path: {} for path in config.volumes},
        "ExposedPorts": {port: {} for port in config.ports},
        "Entrypoint": None if config.entrypoint is None else list(config.entrypoint),
        "Cmd": None if config.cmd is None else list(config.cmd),
        "User": config.user,
        "StopSignal": config.stop_signal,
        "Healthcheck": None if config.healthcheck is None else dict(config.healthcheck),
        "OnBuild": list(config.onbuild),
    }


def _without_nothing(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value not in (None, "", [], {})}


def _architecture(document: dict[str, Any]) -> str:
    architecture = _get(document, "architecture", str, "")
    if not architecture:
        raise ValueError("key architecture: missing")
    return str(Platform(architecture, _get(document, "variant", str, "") or None).usual)


def _environment(settings: dict[str, Any]) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in _words(settings, "Env") or ()]
    return {name: value for name, equals, value in pairs if name and equals}


def _labels(settings: dict[str, Any]) -> dict[str, str]:
    labels = _get(settings, "Labels", dict, {})
    for name, value in labels.items():
        if not isinstance(value, str):
            raise ValueError(f"key Labels.{name}: expected a string, not {type(value).__name__}")
    return dict(labels)


def _diff_ids(rootfs: dict[str, Any]) -> tuple[Digest, ...]:
    listed = _words(rootfs, "diff_ids") or ()
    if len(listed) > _MOST_LAYERS:
        raise ValueError(f"key rootfs.diff_ids: {len(listed)} layers, more than {_MOST_LAYERS}")
    return tuple(map(Digest.parse, listed))


def _get(document: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = document.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise ValueError(f"key {key}: expected {kind.__name__}, not {type(value).__name__}")
    return value


def _words(document: dict[str, Any], key: str) -> tuple[str, ...] | None:
    words = document.get(key)
    if words is None:
        return None
    if isinstance(words, str):  # Old versions of Docker wrote single words so.
        return (words,)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"key {key}: expected a list of strings")
    return tuple(words)


def _objects(document: dict[str, Any], key: str) -> tuple[dict[str, Any], ...]:
    objects = _get(document, key, list, [])
    if not all(isinstance(each, dict) for each in objects):
        raise ValueError(f"key {key}: expected a list of objects")
    return tuple(objects)
