"""Every family of the zoo at full size: converted, measured in turns, compared with Keras; writes docs/families.md.

    python tools/families.py [NAME...] -o docs/families.md [--quick] [--again] [--legacy PYTHON]

The raw samples go to records/families.json (`--record`). A stopped run resumes where it was; `--again` measures again.
It needs a quiet machine and, for all families, about an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "convert" / "nets")]

import numpy as np  # noqa: E402
import zoo  # noqa: E402
import zoo_keras2  # noqa: E402
import zoo_odd  # noqa: E402

from convert import convert_model  # noqa: E402
from convert.source.answers import draw_images  # noqa: E402
from edge_runtime.contract.tail import read_contract  # noqa: E402
from edge_runtime.errors import EdgeSegError  # noqa: E402
from edge_runtime.inference.session import Session  # noqa: E402
from edge_runtime.system.quiet import silence_stderr  # noqa: E402

THREADS, GOAL = 2, 0.9
# How much farther from float32 than LiteRT tflite-runtime may be: a judgement, from no source.
FARTHER, ALLOWED = 1.5, 0.005
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm")
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(zoo.FAMILIES)}; default: all")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "families.md")
    parser.add_argument("--record", type=Path, default=ROOT / "records" / "families.json")
    parser.add_argument("--quick", action="store_true", help="small nets where there are some, and few samples")
    parser.add_argument("--again", action="store_true", help="measure what was measured before")
    parser.add_argument("--legacy", metavar="PYTHON", help="an interpreter with tflite-runtime 2.14 to run files in")
    parser.add_argument("--seconds", type=float, default=20.0, help="of samples for each family (default 20)")
    parser.add_argument("--make", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.make:
        make_files(options.make[0], Path(options.make[1]), options.quick)
        return 0
    unknown = set(options.names) - set(zoo.FAMILIES)
    if unknown:
        parser.error(f"unknown families: {', '.join(sorted(unknown))}")
    raw = options.record
    data = json.loads(raw.read_text()) if raw.is_file() else {"families": {}, "refused": {}}
    rows: dict[str, Row] = data["families"]
    for name in options.names or list(zoo.FAMILIES):
        if name in rows and rows[name]["machine"] == describe_machine() and not options.again:
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows[name] = measure_family(name, options.quick, options.seconds, options.legacy)
        print(to_line(name, rows[name]), flush=True)
        raw.write_text(json.dumps(data, indent=1) + "\n")
    if not data["refused"] or options.again:
        data["refused"] = list_refusals()
    raw.write_text(json.dumps(data, indent=1) + "\n")
    options.output.write_text(to_page(rows, data["refused"]))
    return 0


def list_refusals() -> dict[str, str]:
    """Return {what: the line with which it is refused} of the zoo's refused models."""
    lines = {}
    for name, (build, _) in zoo_odd.REFUSED.items():
        with tempfile.TemporaryDirectory(prefix="families-") as work:
            build().save(Path(work, "net.keras"))
            try:
                convert_model(Path(work, "net.keras"))
            except EdgeSegError as error:
                lines[name] = str(error).replace(f"{work}/", "")
    return lines


def make_files(name: str, folder: Path, quick: bool) -> None:
    """Write a family's model, and what TensorFlow's converter makes of it as it comes: static, float32 and DRQ."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import keras
    import tensorflow as tf

    family = zoo.FAMILIES[name]
    model = family.small() if quick and family.small else family.build()
    if family.suffix == ".h5":
        zoo_keras2.write_keras2(model, folder / f"net{family.suffix}")
    else:
        model.save(folder / f"net{family.suffix}")
    (folder / "net.contract.toml").write_text(family.contract)
    shape = tuple(model.inputs[0].shape)[1:]
    shape = (*family.input_size, shape[-1]) if family.input_size else shape
    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec((1, *shape), model.inputs[0].dtype)
    archive.add_endpoint("serve", lambda x: model(x, training=False), input_signature=[spec])
    archive.write_out(str(folder / "static"), verbose=False)
    for recipe, optimizations in (("fp32", []), ("drq", [tf.lite.Optimize.DEFAULT])):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "static"))
        converter.optimizations = optimizations
        try:
            (folder / f"stock.{recipe}.tflite").write_bytes(converter.convert())
        except Exception as error:  # the stock converter's limits are part of the table
            lines = [line for line in str(error).splitlines() if "Select ops:" in line or "Custom ops:" in line]
            (folder / "stock.error").write_text((lines or ["it fails"])[0].strip())


def measure_family(name: str, quick: bool, seconds: float, legacy: str | None) -> Row:
    """Return a family's row: what became of it, and raw samples."""
    family = zoo.FAMILIES[name]
    row: Row = {"says": family.says, "machine": describe_machine(), "quick": quick, "error": None, "stock_error": None}
    with tempfile.TemporaryDirectory(prefix="families-") as work:
        folder = Path(work)
        command = [sys.executable, __file__, "--make", name, work, *(["--quick"] if quick else [])]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            raise SystemExit(made.stderr[-2000:])
        model = folder / f"net{family.suffix}"
        options: dict[str, Any] = {"input_size": family.input_size, "allow": ["slower"]}
        options |= {"keep_float": 0} if quick else {}
        try:
            started = time.monotonic()
            done = convert_model(model, out=folder / "ours.tflite", **options)
            row["convert_s"] = round(time.monotonic() - started, 1)
        except EdgeSegError as error:
            return {**row, "error": str(error).replace(work, "")}
        report = json.loads(done.report_path.read_text())
        row |= {key: report[key] for key in ("parameters", "size_bytes", "fp32_bytes", "notes")}
        row |= {"partitions": done.audit.partitions, "outside": list(done.audit.outside)}
        row |= {"difference": done.checks.largest_difference, "mean_difference": done.checks.mean_difference}
        row["changed_pixels"] = done.checks.changed_pixels
        files = {"ours": folder / "ours.tflite", "fp32": folder / "stock.fp32.tflite"}
        if (folder / "stock.drq.tflite").is_file():
            files["stock"] = folder / "stock.drq.tflite"
            row["stock_bytes"] = files["stock"].stat().st_size
        else:
            row["stock_error"] = (folder / "stock.error").read_text()
            files["fp32"] = convert_model(model, "fp32", folder / "fp32.tflite", **options).path
        row["samples_ms"] = time_files(files, seconds)
        row["legacy"] = run_legacy(model, folder, options, legacy) if legacy else None
    return row


def time_files(files: dict[str, Path], seconds: float) -> dict[str, list[float]]:
    """Return milliseconds per inference of each file, taken in turns whose order rotates; at least eleven rounds."""
    engines = [(name, open_file(path)) for name, path in files.items()]
    spec = read_contract(files["ours"]).input
    image = draw_images(*spec.size, spec.shape[-1], spec.depth)[3]
    tensor = Session.load(files["ours"], "litert", THREADS).preprocess(image)
    samples: dict[str, list[float]] = {name: [] for name in files}
    for _, run in engines * 2:
        run(tensor)
    end = time.monotonic() + seconds
    while len(samples["ours"]) < 11 or time.monotonic() < end:
        for name, run in engines:
            start = time.perf_counter()
            run(tensor)
            samples[name].append(round((time.perf_counter() - start) * 1e3, 4))
        engines = engines[1:] + engines[:1]
    return samples


def open_file(path: Path) -> Callable[[Any], None]:
    """Return what runs a file on a tensor, whatever outputs it has."""
    from ai_edge_litert.interpreter import Interpreter

    with silence_stderr():
        interpreter = Interpreter(model_path=str(path), num_threads=THREADS)
        interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]

    def run(tensor: Any) -> None:
        interpreter.set_tensor(place, tensor)
        interpreter.invoke()

    return run


def run_legacy(model: Path, folder: Path, options: dict[str, Any], python: str) -> str:
    """Return what tflite-runtime 2.14 makes of the file for it: "runs", how far off it is, or its error.

    It quantizes activations by kernels of its own, so it is held to the float32 answer, hardly farther from it
    than LiteRT is: with random weights both may be far, and then twice as far from each other.
    """
    options = {**options, "target": "tflite-runtime", "upsample": "depth-to-space"}
    try:
        done = convert_model(model, out=folder / "legacy.tflite", keep_float=0, **options)
        exact = convert_model(model, "fp32", folder / "exact.tflite", **options).path
    except EdgeSegError as error:
        return str(error).replace(str(folder), "")[:300]
    session = Session.load(done.path, "litert", THREADS)
    spec = session.contract.input
    tensor = session.preprocess(draw_images(*spec.size, spec.shape[-1], spec.depth)[3])
    expected = Session.load(exact, "litert", THREADS).engine.infer(tensor)
    np.save(folder / "tensor.npy", tensor)
    code = (
        "import sys, numpy as np; from tflite_runtime.interpreter import Interpreter as I; i = I(sys.argv[1]); "
        "i.allocate_tensors(); i.set_tensor(i.get_input_details()[0]['index'], np.load('tensor.npy')); i.invoke(); "
        "np.save('answer.npy', i.get_tensor(i.get_output_details()[0]['index']))"
    )
    ran = subprocess.run([python, "-c", code, str(done.path)], capture_output=True, text=True, cwd=folder)
    if ran.returncode:
        return ran.stderr.strip().splitlines()[-1]
    theirs, ours = (
        float(np.abs(y - expected).mean()) for y in (np.load(folder / "answer.npy"), session.engine.infer(tensor))
    )
    runs = theirs <= FARTHER * ours + ALLOWED
    return "runs" if runs else f"{theirs:.3g} from float32 on average, LiteRT {ours:.3g}"


def describe_machine() -> dict[str, Any]:
    """Return what tells this machine and these versions from others."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = said.get("flags", said.get("Features", "")).split()
    packages = {name: version(name) for name in ("tensorflow", "keras", "ai-edge-litert")}
    processor = said.get("model name", platform.machine())
    return {"cpu": processor, "cores": os.cpu_count(), "features": [x for x in FEATURES if x in flags], **packages}


def to_ratio(row: Row, other: str) -> tuple[float, float, float] | None:
    """Return median and quartiles of our time as a share of another's, round by round."""
    samples = row.get("samples_ms", {})
    if other not in samples or "ours" not in samples:
        return None
    ratios = [a / b for a, b in zip(samples["ours"], samples[other], strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    return middle, low, high


def say_ratio(ratio: tuple[float, float, float] | None, otherwise: str) -> str:
    """Return '0.31 (0.29–0.33)', in bold where the goal is missed."""
    if ratio is None:
        return otherwise
    text = f"{ratio[0]:.2f} ({ratio[1]:.2f}–{ratio[2]:.2f})"
    return f"**{text}**" if ratio[0] > GOAL else text


def to_line(name: str, row: Row) -> str:
    """Return a family's line of the table."""
    if row["error"]:
        return f"| {row['says']} | no: {row['error']} | | | | | | |"
    outside = sorted({place.split(" ")[0] for place in row["outside"]})
    partitions = f"{row['partitions']}" + (f" ({', '.join(outside)})" if outside else "")
    cells = [
        f"{row['says']} (`{name}`)",
        f"{row['parameters'] / 1e6:.1f} M",
        partitions,
        f"{row['size_bytes'] / row['fp32_bytes']:.1%}",
        f"{median(row['samples_ms']['fp32']):.1f} ms",
        say_ratio(to_ratio(row, "fp32"), ""),
        say_ratio(to_ratio(row, "stock"), f"stock: {row['stock_error']}"),
        f"{row['difference']:.2g} / {row['mean_difference']:.1g}",
    ]
    return "| " + " | ".join(cells) + " |"


def sum_up(known: dict[str, Row]) -> list[str]:
    """Return how many families were measured and met the goal, and what tflite-runtime made of their files."""
    met = {
        other: sum(ratio is not None and ratio[0] <= GOAL for ratio in (to_ratio(row, other) for row in known.values()))
        for other in ("fp32", "stock")
    }
    lines = [f"{met['fp32']} of {len(known)} meet the goal against FP32, and {met['stock']} against stock. The page"]
    lines += ["on conversion says [why others do not](convert.md#5-the-layout-measured)."]
    missing = [name for name in zoo.FAMILIES if name not in known]
    lines += [f"Not measured here: {', '.join(missing)}."] if missing else []
    old = {name: row["legacy"] for name, row in known.items() if row.get("legacy")}
    if old:
        ran = list(old.values()).count("runs")
        lines += [f"{ran} of {len(old)} files for `--target tflite-runtime` run in tflite-runtime 2.14.0"]
        lines += [f"({', '.join(old)})."]
        lines += [f"Their mean difference from float32 is at most {FARTHER} times that in LiteRT, plus {ALLOWED}."]
        lines += [f"`{name}`: {said}." for name, said in old.items() if said != "runs"]
    return lines


def to_page(rows: dict[str, Row], refused: dict[str, str]) -> str:
    """Return the whole page."""
    known = {name: rows[name] for name in zoo.FAMILIES if name in rows}
    machine = next(iter(known.values()))["machine"] if known else describe_machine()
    lines = [
        *("# Families", ""),
        "These are segmentation models of the field, with random weights at their true widths. They were converted by",
        "`edge-convert` with dynamic-range quantization, then measured with two threads, in turns, on a drawn",
        "slice. The page was made by",
        *("", "    python tools/families.py -o docs/families.md", ""),
        f"on {machine['cores']} cores of {machine['cpu']} ({', '.join(machine['features']) or 'plain'}),",
        f"TensorFlow {machine['tensorflow']}, Keras {machine['keras']}, ai-edge-litert {machine['ai-edge-litert']}.",
        "The raw samples are in [records/families.json](../records/families.json). Milliseconds mean little on other",
        "machines; ratios mean more.",
        "",
        "- **size**: our file's size as a share of the static float32 file's.",
        "- **FP32**: the median time of the static float32 file, as TensorFlow's converter makes it.",
        "- **against FP32**, **against stock**: our time as a share of that file's time, median (and quartiles) over",
        f"  rounds. The goal is {GOAL} or less; a missed goal is bold. Stock is TensorFlow's own dynamic-range file,",
        "  static too.",
        "- **difference**: of probabilities, from Keras in float32 on six drawn images, largest / mean.",
        *("", *sum_up(known)),
        "",
        "| family | parameters | partitions (outside) | size | FP32 | against FP32 | against stock | difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(to_line(name, row) for name, row in known.items()),
        *("", "## What is refused", "", "Each error is one line that names the layer, the output or the shape:", ""),
        *(f"- `{line}`" for line in refused.values()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
