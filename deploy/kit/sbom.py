"""What is a kit made of? Its bill of materials, CycloneDX 1.6, without a time or a random number."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from edge_runtime.contract.fields import Contract

from .targets import Target
from .wheels import PROJECT, Wheel

NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122's for URLs


def to_sbom(wheels: Sequence[Wheel], contract: Contract, model_sha256: str, target: Target) -> bytes:
    """Return the bill of materials: a component for each wheel, and the model as a machine-learning model.

    Source: CycloneDX 1.6, JSON; package URLs as in purl-spec's pypi type.
    """
    (project,) = (wheel for wheel in wheels if wheel.name == PROJECT)
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{contract.model.id}@{contract.model.version}",
        "name": contract.model.id,
        "version": contract.model.version,
        "description": contract.intended_use,
        "hashes": [{"alg": "SHA-256", "content": model_sha256}],
        "properties": [{"name": "edge-seg:source-sha256", "value": contract.source.sha256}],
    }
    components = [*(describe_wheel(wheel) for wheel in wheels if wheel.name != PROJECT), model]
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": describe_wheel(project) | {"type": "application"},
            "properties": [{"name": "edge-seg:target", "value": target.name}],
        },
        "components": components,
        "dependencies": [{"ref": to_purl(project), "dependsOn": sorted(item["bom-ref"] for item in components)}],
    }
    serial = uuid.uuid5(NAMESPACE, json.dumps(body, sort_keys=True))
    return (json.dumps(body | {"serialNumber": f"urn:uuid:{serial}"}, indent=1, sort_keys=True) + "\n").encode()


def describe_wheel(wheel: Wheel) -> dict[str, Any]:
    """Return a wheel's component."""
    licences = {"licenses": [{"license": {"name": wheel.licence}}]} if wheel.licence else {}
    return {
        "type": "library",
        "bom-ref": to_purl(wheel),
        "name": wheel.name,
        "version": wheel.version,
        "purl": to_purl(wheel),
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        "properties": [{"name": "edge-seg:file", "value": wheel.path.name}],
        **licences,
    }


def to_purl(wheel: Wheel) -> str:
    """Return a wheel's package URL."""
    return f"pkg:pypi/{wheel.name}@{wheel.version.replace('+', '%2B')}"
