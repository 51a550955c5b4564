"""How is a kit made? The model, the software that runs it on one target, the bill of materials, and a signature."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.files import read_regular
from deploy.installer import NAME, build_installer
from edge_runtime.contract.fields import Contract
from edge_runtime.contract.tail import read_contract
from edge_runtime.errors import ModelError, OutputError, UsageError
from edge_runtime.system.files import open_atomic

from . import unit_files
from .archive import MANIFEST, SIGNATURE, write_archive
from .keys import sign
from .manifest import LOCK, MAX_TOTAL, MODEL, SBOM, WHEELS, Entry, Manifest, check_entries, to_json
from .own_wheel import make_own_wheel
from .sbom import to_sbom
from .targets import Target
from .wheels import PROJECT, Wheel, gather_wheels, read_licences, read_lock, read_wheel, to_lock

INSTALLED_RATIO = 1.4  # installed files with their byte code, to the unpacked files of the wheels

Contents = dict[str, bytes | Path]  # by the path in the kit: bytes, or a file to copy


@dataclass(frozen=True)
class KitOptions:
    """What a kit is made of.

    wheel: the project's own; None: from the sources, or from the installed files. wheels: a folder with the others;
    None: the package index. lock: an earlier kit's, whose versions are used. include_wheels: whether the dependencies
    are in the kit.
    """

    model: Path
    target: Target
    key: Path
    out: Path
    wheel: Path | None = None
    wheels: Path | None = None
    lock: Path | None = None
    include_wheels: bool = True
    release: int = 0
    latency_ms: float | None = None
    force: bool = False


def make_kit(options: KitOptions) -> Manifest:
    """Write the kit and return its manifest; the same model, wheels, key and options give the same bytes.

    Raises: ContractError, ModelError if the model is not stamped; UsageError; EdgeSegError if a wheel cannot be had;
    OutputError.
    """
    if os.path.lexists(options.out) and not options.force:
        raise OutputError(str(options.out), "it exists already", "--force overwrites it")
    if not options.out.parent.is_dir():
        raise OutputError(str(options.out), f"there is no folder {options.out.parent}", "make it or choose another -o")
    contract = read_contract(options.model, verify=True)
    sign(options.key, b"")  # an unusable key is reported before the wheels are downloaded
    model = read_model(options.model)
    with tempfile.TemporaryDirectory(prefix="edge-deploy-") as name:
        folder = Path(name)
        project = read_wheel(options.wheel or make_own_wheel(folder))
        if project.name != PROJECT:
            raise UsageError(str(project.path), f"it is a wheel of {project.name}", f"give {PROJECT}'s own wheel")
        (folder / "found").mkdir()
        pins = read_lock(options.lock) if options.lock else None
        wheels = gather_wheels(project, options.target, folder / "found", options.wheels, pins)
        contents = collect_contents(options, contract, model, wheels)
        manifest = describe_kit(options, contract, model, wheels, contents)
        text = to_json(manifest)
        signature, _ = sign(options.key, text)
        write_kit(options.out, {MANIFEST: text, SIGNATURE: signature, **contents})
    return manifest


def read_model(path: Path) -> bytes:
    """Return a model's bytes. Raises: ModelError."""
    try:
        return read_regular(path, MAX_TOTAL)
    except OSError as error:
        raise ModelError(str(path), error.strerror or str(error), "give a .tflite file") from None


def collect_contents(options: KitOptions, contract: Contract, model: bytes, wheels: list[Wheel]) -> Contents:
    """Return {path in the kit: content}, in the order of the paths."""
    settings = unit_files.ServiceSettings()
    contents: Contents = {
        MODEL: model,
        LOCK: to_lock(wheels).encode(),
        SBOM: to_sbom(wheels, contract, hashlib.sha256(model).hexdigest(), options.target),
        f"installer/{NAME}": build_installer(),
        "README.txt": README.encode(),
        f"units/{unit_files.UNIT}": unit_files.to_unit(settings, find_service_memory(contract, len(model))).encode(),
        "units/edge-seg-check.service": unit_files.to_check_unit(settings).encode(),
        "units/edge-seg.sysusers": unit_files.to_sysusers(settings).encode(),
        "units/edge-seg.tmpfiles": unit_files.to_tmpfiles(settings).encode(),
        "units/loop.sh": unit_files.to_loop(settings).encode(),
    }
    for wheel in wheels:
        if options.include_wheels or wheel.name == PROJECT:
            contents[f"{WHEELS}/{wheel.path.name}"] = wheel.path
            for name, text in read_licences(wheel).items():
                contents[f"licences/{wheel.name}-{wheel.version}/{name}"] = text
    return dict(sorted(contents.items()))


def find_service_memory(contract: Contract, model_bytes: int) -> int:
    """Return the service's memory limit for a model, in bytes."""
    return unit_files.find_memory_limit(model_bytes, math.prod(contract.input.shape[1:-1]))


def describe_kit(
    options: KitOptions, contract: Contract, model: bytes, wheels: list[Wheel], contents: Contents
) -> Manifest:
    """Return the manifest of a kit with these contents. Raises: KitError if devices would refuse it."""
    entries = []
    for path, content in contents.items():
        data = content if isinstance(content, bytes) else content.read_bytes()
        entries.append(Entry(path, len(data), hashlib.sha256(data).hexdigest()))
    manifest = Manifest(
        target=options.target.name,
        machine=options.target.machine,
        python=options.target.python,
        glibc=options.target.glibc,
        software=next(wheel.version for wheel in wheels if wheel.name == PROJECT),
        model_id=contract.model.id,
        model_version=contract.model.version,
        model_sha256=hashlib.sha256(model).hexdigest(),
        release=options.release,
        wheels=options.include_wheels,
        latency_ms=options.latency_ms,
        memory_bytes=find_service_memory(contract, len(model)),
        installed_bytes=int(INSTALLED_RATIO * sum(wheel.unpacked_bytes for wheel in wheels)),
        files=tuple(entries),
    )
    check_entries(manifest)
    return manifest


def write_kit(out: Path, contents: Contents) -> None:
    """Write the archive whole or not at all. Raises: OutputError."""
    with open_atomic(out, fix="make room or choose another -o") as file:
        write_archive(file, contents.items())


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
