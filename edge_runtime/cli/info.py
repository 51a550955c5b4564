"""What does `edge-seg --info` say of a model in eight lines, for a person to read?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_runtime.contract.fields import Contract, InputSpec
from edge_runtime.contract.findings import FINDINGS
from edge_runtime.inference.engine_verdict import EngineVerdict

COLUMN = 11  # of the second column
SHOWN_DIGITS = 12  # of a SHA-256
SCALE_SOURCES = {
    "graph": "as found in the model",
    "told": "as its contract file says",
    "masks": "found by trying values on masks",
    "assumed": "assumed: nothing in the model says so",
}
# The first of each row that the contract has; other figures are under --json.
FIGURES = (
    ("Dice", ("dice",)),
    ("mean IoU", ("mean_iou", "binary_io_u")),
    ("lesion IoU", ("lesion_iou", "tumour_iou")),
    ("false alarms", ("false_alarms",)),
)


def describe_contract(path: Path, contract: Contract, verdict: EngineVerdict | None) -> list[str]:
    """Return eight lines: model, use, takes, answers, quality, made from, allowed, engine.

    verdict: of the engines measured here, None where nothing was measured.
    """
    facts, source = contract.model, contract.source
    versions = ", ".join(f"{name} {version}" for name, version in sorted(source.versions.items()))
    engine = "not measured here; edge-seg --retune does" if verdict is None else describe_engine(verdict)
    rows = {
        "model": f"{facts.id} {facts.version}, {facts.bytes / 1e6:.1f} MB, recipe {contract.recipe}: {path}",
        "use": contract.intended_use,
        "takes": describe_input(contract),
        "answers": describe_answers(contract),
        "quality": describe_quality(contract.quality),
        "made from": f"a model of SHA-256 {source.sha256[:SHOWN_DIGITS]}…, with {versions}",
        "allowed": "; ".join(f"{name}: {FINDINGS.get(name, 'a finding of the audit')}" for name in contract.allowed)
        or "no finding of the audit",
        "engine": engine,
    }
    return [f"{name:<{COLUMN}}{text}" for name, text in rows.items()]


def describe_input(contract: Contract) -> str:
    """Return which images a model takes, how they are resized and scaled, and what it was trained on."""
    spec, made_for = contract.input, contract.acquisition
    kind = "grey" if spec.colour == "grey" else "colour"
    size = " × ".join(map(str, spec.size))
    what = f"a {kind} image" if spec.depth is None else f"a volume of {spec.depth} {kind} slices"
    if spec.channels is not None:
        what += f" ({', '.join(spec.channels)})"
    parts = [f"{what} of any size, resized to {size}", describe_values(spec)]
    if made_for is not None:
        words = [made_for.modality, made_for.weighting]
        words.append(made_for.contrast and {"yes": "with contrast", "no": "without contrast"}[made_for.contrast])
        parts.append(f"made for {' '.join(filter(None, words))}")
    return "; ".join(parts)


def describe_values(spec: InputSpec) -> str:
    """Return the range of the input tensor's values, and where it is known from."""
    if isinstance(spec.scale, tuple) or isinstance(spec.offset, tuple):
        span = "values scaled by channel"
    else:
        span = f"values {spec.offset:g} to {255 * spec.scale + spec.offset:g}"
    return span + (f", {SCALE_SOURCES[spec.scale_from]}" if spec.scale_from else "")


def describe_answers(contract: Contract) -> str:
    """Return what the mask's values mean, and which probability decides, from where."""
    output, threshold = contract.output, contract.threshold
    if output.activation == "softmax":
        labels = ", ".join(f"{value} {label.name}" for value, label in enumerate(output.labels))
        text = f"a mask of labels ({labels}): the most probable one, no threshold"
    else:
        labels = ", ".join(label.name for label in output.labels)
        text = f"a mask of {labels}, where the probability is at least {threshold.value:g} (from {threshold.from_})"
    if contract.classes is None:
        return text
    return f"{text}; a class of the whole image ({', '.join(contract.classes.labels)})"


def describe_quality(quality: Mapping[str, Any] | None) -> str:
    """Return how good the model was found to be, on how many images of which set."""
    if quality is None:
        return "not measured; edge-convert --check IMAGES --masks DIR does"
    figures = []
    for words, names in FIGURES:
        value = next((quality[name] for name in names if isinstance(quality.get(name), (int, float))), None)
        if value is not None:
            figures.append(f"{words} {f'{value:.1%}' if names == ('false_alarms',) else f'{value:.3f}'}")
    return f"{', '.join(figures) or 'figures under --json'} on {quality['n']} images: {quality['split']}"


def describe_engine(verdict: EngineVerdict) -> str:
    """Return which engine was chosen here, and why."""
    many = f"{verdict.workers} worker" + "s" * (verdict.workers != 1)
    threads = f"{verdict.threads} thread" + "s" * (verdict.threads != 1)
    return f"{verdict.engine}, {many} of {threads}: {verdict.why}"
