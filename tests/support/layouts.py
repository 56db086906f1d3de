"""Image archives made by hand: also those that no honest program writes."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OCI = "application/vnd.oci.image."
MANIFEST, INDEX, CONFIG = f"{OCI}manifest.v1+json", f"{OCI}index.v1+json", f"{OCI}config.v1+json"
LAYER = f"{OCI}layer.v1.tar"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(files: Mapping[str, str]) -> bytes:
    """A layer with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
    return buffer.getvalue()


def config(layers: Sequence[bytes], *, architecture: str = "amd64", **settings: Any) -> bytes:
    """The configuration of an image of these plain layers."""
    rootfs = {"type": "layers", "diff_ids": [digest(each) for each in layers]}
    document = {"architecture": architecture, "os": "linux", "config": settings, "rootfs": rootfs, "history": []}
    return json.dumps(document).encode()


class Layout:
    """An OCI layout being made in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.blobs = directory / "blobs/sha256"
        self.blobs.mkdir(parents=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.entries: list[dict[str, Any]] = []
        self.index()

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Add a blob; return its descriptor."""
        (self.blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def manifest(self, layers: Sequence[bytes], config_data: bytes | None = None, **settings: Any) -> dict[str, Any]:
        """Add an image; return the descriptor of its manifest, which is in no index yet."""
        described = self.blob(config_data or config(layers, **settings), CONFIG)
        document = {"schemaVersion": 2, "config": described, "layers": [self.blob(each, LAYER) for each in layers]}
        return self.blob(json.dumps(document).encode(), MANIFEST)

    def add(self, entry: dict[str, Any], name: str | None = None, architecture: str | None = None) -> dict[str, Any]:
        """Put a manifest or index into the index."""
        if name is not None:
            entry = {**entry, "annotations": {"org.opencontainers.image.ref.name": name}}
        if architecture is not None:
            entry = {**entry, "platform": {"architecture": architecture, "os": "linux"}}
        self.entries.append(entry)
        self.index()
        return entry

    def nested(self, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Add an index; return its descriptor."""
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}
        return self.blob(json.dumps(document).encode(), INDEX)

    def index(self, data: bytes | None = None) -> None:
        """Write the index; `data` instead of a good one."""
        document = {"schemaVersion": 2, "manifests": self.entries}
        (self.directory / "index.json").write_bytes(data or json.dumps(document).encode())

    def file_of(self, descriptor: Mapping[str, Any]) -> Path:
        return self.blobs / str(descriptor["digest"]).partition(":")[2]

    def archive(self, path: Path) -> Path:
        """Pack it."""
        with tarfile.open(path, "w") as archive:
            for name in sorted(os.listdir(self.directory)):
                archive.add(self.directory / name, arcname=name)
        return path


def docker_archive(
    path: Path, manifest: Any, files: "Mapping[str, bytes] | Mapping[str, bytes | tarfile.TarInfo]", mode: str = "w"
) -> Path:
    """What `docker save` writes; members that are no regular files are given as such."""
    everything = {**files, "manifest.json": manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()}
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in everything.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path
