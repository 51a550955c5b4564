"""Makes a kit: the model, all that runs it on one target, what it is made of, and a signature over all of it."""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract import Contract, read_contract
from edge_runtime.errors import OutputError, UsageError

from . import units
from .archive import MANIFEST, SIGNATURE, write_archive
from .installer import NAME, build_installer
from .keys import sign
from .manifest import LOCK, MODEL, SBOM, WHEELS, Entry, Manifest, check_entries, to_json
from .sbom import to_sbom
from .targets import Target
from .wheels import PROJECT, Wheel, build_project, gather_wheels, read_licences, read_lock, read_wheel, to_lock

COMPILED = 1.4  # a slot's wheels and their byte code, against the wheels' files


@dataclass(frozen=True)
class Order:
    """What a kit is to hold.

    wheel: the project's, built from the sources where None. wheels: a folder to take the others from, the package index
    where None. lock: of an earlier kit, whose versions are taken. carry: whether the dependencies go into the kit.
    """

    model: Path
    target: Target
    key: Path
    out: Path
    wheel: Path | None = None
    wheels: Path | None = None
    lock: Path | None = None
    carry: bool = True
    release: int = 0
    latency_ms: float | None = None
    force: bool = False


def make_kit(order: Order) -> Manifest:
    """Write the kit and return its manifest; the same model, wheels, key and options give the same bytes.

    Raises: ContractError, ModelError if the model is not stamped; UsageError; EdgeSegError if a wheel cannot be had;
    OutputError.
    """
    if os.path.lexists(order.out) and not order.force:
        raise OutputError(str(order.out), "it is there already", "--force overwrites it")
    contract = read_contract(order.model, verify=True)
    sign(order.key, b"")  # a key that does not sign is said before the wheels are looked for
    model = order.model.read_bytes()
    with tempfile.TemporaryDirectory(prefix="edge-deploy-") as name:
        folder = Path(name)
        project = read_wheel(order.wheel or build_project(folder))
        if project.name != PROJECT:
            raise UsageError(str(project.path), f"it is a wheel of {project.name}", f"--wheel takes {PROJECT}'s own")
        (folder / "found").mkdir()
        pins = read_lock(order.lock) if order.lock else None
        wheels = gather_wheels(project, order.target, folder / "found", order.wheels, pins)
        contents = collect(order, contract, model, wheels)
        manifest = describe_kit(order, contract, model, wheels, contents)
        text = to_json(manifest)
        signature, _ = sign(order.key, text)
        write_kit(order.out, {MANIFEST: text, SIGNATURE: signature} | contents)
    return manifest


def collect(order: Order, contract: Contract, model: bytes, wheels: list[Wheel]) -> dict[str, bytes | Path]:
    """Return {path in the kit: content}, in the order of the paths."""
    setting = units.Setting()
    found: dict[str, bytes | Path] = {
        MODEL: model,
        LOCK: to_lock(wheels).encode(),
        SBOM: to_sbom(wheels, contract, hashlib.sha256(model).hexdigest(), order.target),
        f"installer/{NAME}": build_installer(),
        "README.txt": README.encode(),
        f"units/{units.UNIT}": units.to_unit(setting, count_memory(contract, len(model))).encode(),
        "units/edge-seg-check.service": units.to_check_unit(setting).encode(),
        "units/edge-seg.sysusers": units.to_sysusers(setting).encode(),
        "units/edge-seg.tmpfiles": units.to_tmpfiles(setting).encode(),
        "units/loop.sh": units.to_loop(setting).encode(),
    }
    for wheel in wheels:
        if order.carry or wheel.name == PROJECT:
            found[f"{WHEELS}/{wheel.path.name}"] = wheel.path
            for name, text in read_licences(wheel).items():
                found[f"licences/{wheel.name}-{wheel.version}/{name}"] = text
    return dict(sorted(found.items()))


def count_memory(contract: Contract, model_bytes: int) -> int:
    """Return the memory limit of the service for a model."""
    return units.need_memory(model_bytes, math.prod(contract.input.shape[1:-1]))


def describe_kit(
    order: Order, contract: Contract, model: bytes, wheels: list[Wheel], contents: Mapping[str, bytes | Path]
) -> Manifest:
    """Return the manifest of a kit with these contents. Raises: KitError if it would not be taken."""
    entries = []
    for path, content in contents.items():
        data = content if isinstance(content, bytes) else content.read_bytes()
        entries.append(Entry(path, len(data), hashlib.sha256(data).hexdigest()))
    manifest = Manifest(
        target=order.target.name,
        machine=order.target.machine,
        python=order.target.python,
        glibc=order.target.glibc,
        software=next(wheel.version for wheel in wheels if wheel.name == PROJECT),
        model_id=contract.model.id,
        model_version=contract.model.version,
        model_sha256=hashlib.sha256(model).hexdigest(),
        release=order.release,
        wheels=order.carry,
        latency_ms=order.latency_ms,
        memory_bytes=count_memory(contract, len(model)),
        installed_bytes=int(COMPILED * sum(wheel.unpacked_bytes for wheel in wheels)),
        files=tuple(entries),
    )
    check_entries(manifest)
    return manifest


def write_kit(out: Path, contents: Mapping[str, bytes | Path]) -> None:
    """Write the archive whole or not at all. Raises: OutputError."""
    temporary = out.parent / f".new-{secrets.token_hex(6)}"
    try:
        try:
            with temporary.open("xb") as file:
                write_archive(file, contents.items())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(str(out), error.strerror or str(error), "make room or choose another -o") from None


README = """\
A kit of edge-seg: a segmentation model and all that runs it, for one kind of device. Do not unpack it; with the
installer edge-deploy.pyz and the public key P that you were given apart from this file:

    python3 edge-deploy.pyz verify THIS_FILE --pub P
    sudo python3 edge-deploy.pyz install THIS_FILE --root /opt/edge-seg --pub P
    /opt/edge-seg/current/venv/bin/edge-seg IMAGES --model /opt/edge-seg/current/kit/model.tflite

No part of it is run before the signature over manifest.json was checked. To check by other means:

    tar -xf THIS_FILE manifest.json manifest.sig
    openssl pkeyutl -verify -pubin -inkey P -rawin -in manifest.json -sigfile manifest.sig

Not a medical device: for research and evaluation.
"""
