"""The folder run: its outputs, its journal, and its errors."""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from fakes import FakeEngine, echo, make_contract, make_session
from malformed.png import make_bomb

from edge_runtime.contract.fields import ClassSpec, Contract
from edge_runtime.errors import EdgeSegError, EngineError, ModelError, OutputError
from edge_runtime.folder.gallery.page import to_page_row
from edge_runtime.folder.inputs import Input, find_inputs
from edge_runtime.folder.outputs import Options
from edge_runtime.folder.pools.threads import ThreadPool
from edge_runtime.folder.records.journal import JOURNAL, LOCK, lock_output
from edge_runtime.folder.records.results_csv import RESULTS, read_rows
from edge_runtime.folder.run import run_folder
from edge_runtime.inference.session import Session

Array = npt.NDArray[np.generic]
Save = Callable[[Path, Array], None]
COLUMNS = [
    *("file", "status", "error", "width", "height", "lesion_pixels", "lesion_fraction", "components"),
    *("max_probability", "flags", "read_ms", "infer_ms", "write_ms", "input_sha256"),
]


def run(
    folder: Path | list[Path],
    out: Path,
    load: Callable[[], Session] = make_session,
    recursive: bool = False,
    **options: bool | int | str,
) -> tuple[list[dict[str, str]], int]:
    inputs = folder if isinstance(folder, list) else [folder]
    settings = Options(**options)  # type: ignore[arg-type]
    counts = run_folder(find_inputs(inputs, recursive, out).inputs, out, ThreadPool(load, settings), settings)
    return list(read_rows(out / RESULTS)), counts.kept


def read_results(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def read_mask(path: Path) -> npt.NDArray[np.uint8]:
    """By its bytes: OpenCV cannot open names that are not UTF-8."""
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return np.asarray(pixels)


def list_outputs(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} - {JOURNAL, LOCK}


def counting() -> tuple[Callable[[], Session], Callable[[], int]]:
    """A loader, and how many images its sessions have seen."""
    made: list[Session] = []

    def load() -> Session:
        made.append(make_session())
        return made[-1]

    return load, lambda: sum(session.engine.seen for session in made)  # type: ignore[attr-defined]


def without_times(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if not key.endswith("_ms")} for row in rows]


# --- what is written ---------------------------------------------------------------------------------------------


def test_outputs_have_the_promised_names(folder: Path, tmp_path: Path) -> None:
    """A PNG keeps its name, any other gets .png appended; masks, overlays, results, and a gallery's pictures."""
    run(folder, tmp_path / "out", probability=True)
    names = ["a", "b.jpg", "c.tif"]
    wanted = {f"{kind}/{name}.png" for kind in ("masks", "probability") for name in names}
    pictures = {f"{kind}/{name}.jpg" for kind in ("overlays", "gallery") for name in names}
    assert list_outputs(tmp_path / "out") == wanted | pictures | {"results.csv"}


def test_overlays_of_another_kind_take_the_place_of_earlier_ones(folder: Path, tmp_path: Path) -> None:
    """JPEG, PNG or none: what the last run was asked for is there, and nothing else; the gallery links it."""
    out = tmp_path / "out"
    for kind, names in (("png", ["a.png", "b.jpg.png", "c.tif.png"]), ("jpeg", ["a.jpg", "b.jpg.jpg", "c.tif.jpg"]),
                        ("none", []), ("png", ["a.png", "b.jpg.png", "c.tif.png"])):  # fmt: skip
        rows, kept = run(folder, out, overlay=kind)
        assert kept == 0
        assert sorted(path.name for path in out.glob("overlays/*")) == names
        assert [to_page_row(row, out)["overlay"] for row in rows] == (
            [f"overlays/{name}" for name in names] or [""] * 3
        )


def test_overlays_are_the_image_outside_and_the_contour_at_the_edge(folder: Path, tmp_path: Path) -> None:
    """Read back: a PNG bit by bit, a JPEG as near as Pillow's of quality 90 without halved colours."""
    pillow = pytest.importorskip("PIL.Image")
    run(folder, tmp_path / "png", overlay="png")
    run(folder, tmp_path / "jpeg")
    exact, close = (read_mask(tmp_path / path) for path in ("png/overlays/a.png", "jpeg/overlays/a.jpg"))
    image, mask = read_mask(folder / "a.png"), read_mask(tmp_path / "png" / "masks" / "a.png") > 0
    assert (exact[~mask] == image[~mask][:, None]).all() and (exact[mask] != image[mask][:, None]).any()
    pillow.fromarray(exact).save(tmp_path / "pillow.jpg", quality=90, subsampling=0)
    wanted = np.abs(read_mask(tmp_path / "pillow.jpg").astype(int) - exact).mean()
    assert np.abs(close.astype(int) - exact).mean() <= wanted * 1.02
    with pillow.open(tmp_path / "jpeg" / "overlays" / "a.jpg") as picture:
        assert picture.format == "JPEG" and {sampling[1:3] for sampling in picture.layer} == {(1, 1)}


def test_outputs_not_asked_for_are_not_written(folder: Path, tmp_path: Path) -> None:
    """Without overlays and gallery there are masks and results alone."""
    run(folder, tmp_path / "out", overlay="none", gallery=False)
    assert {name.split("/")[0] for name in list_outputs(tmp_path / "out")} == {"masks", "results.csv"}


def test_results_have_the_promised_columns_in_order(folder: Path, tmp_path: Path) -> None:
    """One row for each input, in input order, with the columns of the interface and numbers that parse."""
    rows, kept = run(folder, tmp_path / "out")
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        assert next(csv.reader(file)) == COLUMNS
    found = read_results(tmp_path / "out")
    assert [row["file"] for row in found] == ["a.png", "b.jpg", "c.tif"]
    assert found == rows
    assert kept == 0
    for row in found:
        assert (row["status"], row["error"]) == ("ok", "")
        assert 0 <= float(row["lesion_fraction"]) <= 1
        assert 0 <= float(row["max_probability"]) <= 1
        assert min(float(row[name]) for name in COLUMNS if name.endswith("_ms")) >= 0
        assert row["input_sha256"] == hashlib.sha256((folder / row["file"]).read_bytes()).hexdigest()


def test_masks_are_the_sessions_masks(folder: Path, tmp_path: Path) -> None:
    """0 and 255, 8-bit grey, the image's own size, and the pixels that results.csv counts."""
    run(folder, tmp_path / "out", probability=True)
    for row, name in zip(read_results(tmp_path / "out"), ["a.png", "b.jpg.png", "c.tif.png"], strict=True):
        mask = read_mask(tmp_path / "out" / "masks" / name)
        assert mask.dtype == np.uint8
        assert mask.shape == (int(row["height"]), int(row["width"]))
        assert set(np.unique(mask)) <= {0, 255}
        assert int((mask > 0).sum()) == int(row["lesion_pixels"]) > 0
        probability = read_mask(tmp_path / "out" / "probability" / name)
        assert (probability.dtype, probability.shape) == (np.uint16, mask.shape)
        assert probability.max() / 65535 == pytest.approx(float(row["max_probability"]), abs=1e-4)
        assert ((probability >= 32768) == (mask > 0)).mean() > 0.999
        assert read_mask(tmp_path / "out" / "overlays" / f"{name.removesuffix('.png')}.jpg").shape == (*mask.shape, 3)


def test_several_labels_have_columns_and_values_of_their_own(folder: Path, tmp_path: Path) -> None:
    """A softmax gives masks of label values and a pixels_ column for each label that is not background."""

    def answer(tensor: Array) -> Array:
        core, edema = (tensor > 0.6).astype(np.float32), ((tensor > 0.3) & (tensor <= 0.6)).astype(np.float32)
        return np.concatenate([1 - core - edema, edema, core], axis=3)

    run(folder, tmp_path / "out", lambda: make_session(answer, labels=3))
    rows = read_results(tmp_path / "out")
    after = COLUMNS.index("lesion_pixels") + 1
    flags = COLUMNS.index("flags")
    lead = ["label_probability", "background_probability"]
    own = ["pixels_edema", "pixels_core"]
    assert list(rows[0]) == [*COLUMNS[:after], *own, *COLUMNS[after:flags], *lead, *COLUMNS[flags:]]
    mask = read_mask(tmp_path / "out" / "masks" / "a.png")
    assert set(np.unique(mask)) == {0, 1, 2}
    assert int(rows[0]["pixels_edema"]) == (mask == 1).sum()
    assert int(rows[0]["pixels_core"]) == (mask == 2).sum()
    assert int(rows[0]["lesion_pixels"]) == (mask > 0).sum()


@pytest.mark.parametrize("lead", [-0.2, -1e-4, -1e-7, 0.0, 1e-7, 1e-4, 0.2])
def test_what_decides_a_softmax_is_shown(folder: Path, tmp_path: Path, lead: float) -> None:
    """However close, as written label_probability exceeds background_probability just where the mask is not empty."""

    def answer(tensor: Array) -> Array:
        values = np.zeros((*tensor.shape[:3], 4), np.float32)
        values[...] = (0.3, 0.1, 0.3 + lead, 0.3 - lead)
        return values

    run(folder, tmp_path / "out", lambda: make_session(answer, size=64, labels=4))
    for row in read_results(tmp_path / "out"):
        shown = float(row["label_probability"]) > float(row["background_probability"])
        assert shown == (int(row["lesion_pixels"]) > 0)
        assert float(row["max_probability"]) == pytest.approx(0.7, abs=0.01)  # of any lesion, whatever the mask


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.123456])
@pytest.mark.parametrize("step", [-1e-2, -1e-5, -1e-7, 0.0, 1e-7, 1e-5])
def test_no_rounding_carries_a_probability_over_the_threshold(
    folder: Path, tmp_path: Path, threshold: float, step: float
) -> None:
    """max_probability as written reaches the threshold just where the mask is not empty."""

    def answer(tensor: Array) -> Array:
        return np.full(tensor.shape, np.float32(threshold + step), np.float32)

    run(folder, tmp_path / "out", lambda: make_session(answer, threshold=threshold))
    for row in read_results(tmp_path / "out"):
        assert (float(row["max_probability"]) >= threshold) == (int(row["lesion_pixels"]) > 0)


def test_a_model_that_classifies_has_two_columns_more(folder: Path, tmp_path: Path) -> None:
    """`class` and `class_probability` stand after `flags`; a failed image has none."""
    (folder / "d.png").write_bytes(b"no image")
    contract = make_contract(classes=ClassSpec((1, 2), "softmax", ("none", "glioma")))
    run(folder, tmp_path / "out", lambda: Session(contract, FakeEngine(echo, 32, 1, (0.25, 0.75))))
    rows = read_results(tmp_path / "out")
    names = list(rows[0])
    assert names[names.index("flags") + 1 :][:2] == ["class", "class_probability"]
    assert [(row["class"], row["class_probability"]) for row in rows] == [("glioma", "0.7500")] * 3 + [("", "")]


def test_lesions_that_overlap_have_columns_and_values(folder: Path, tmp_path: Path) -> None:
    """Two sigmoids are labels 1 and 2 in the mask, each with its column; neither is a background."""
    contract = make_contract(labels=2, activation="sigmoid")
    engine = FakeEngine(lambda x: np.concatenate([(x > 0.2) * 0.9, (x > 0.5) * 0.8], axis=3), 32, 2)
    run(folder, tmp_path / "out", lambda: Session(contract, engine))
    row = read_results(tmp_path / "out")[0]
    mask = read_mask(tmp_path / "out" / "masks" / row["file"])
    assert [int(row["pixels_whole"]), int(row["pixels_core"])] == [int((mask == k).sum()) for k in (1, 2)]
    assert int(row["lesion_pixels"]) == int((mask > 0).sum()) > 0


def test_a_model_of_volumes_is_refused(folder: Path, tmp_path: Path) -> None:
    """A model of volumes is one line with a fix, and nothing is written."""
    with pytest.raises(ModelError, match=r"volumes of 4 slices.*segment\(volume\)"):
        run(folder, tmp_path / "out", lambda: Session(make_contract(depth=4), FakeEngine(echo, 32, 1)))
    assert not (tmp_path / "out").exists()


def test_nested_folders_keep_their_names(folder: Path, tmp_path: Path, drawn: Array, save_image: Save) -> None:
    """With --recursive a folder in the folder is one in the output; without, it is left out; so is what is hidden."""
    for name in ("x/y", ".hidden"):
        (folder / name).mkdir(parents=True)
        save_image(folder / name / "d.png", drawn)
    save_image(folder / ".e.png", drawn)
    (folder / "notes.txt").write_text("no image")
    flat, _ = run(folder, tmp_path / "flat")
    deep, _ = run(folder, tmp_path / "deep", recursive=True)
    assert [row["file"] for row in flat] == ["a.png", "b.jpg", "c.tif"]
    assert [row["file"] for row in deep] == ["a.png", "b.jpg", "c.tif", "x/y/d.png"]
    assert (tmp_path / "deep" / "masks" / "x" / "y" / "d.png").is_file()


def test_several_inputs_in_their_order(folder: Path, tmp_path: Path, drawn: Array, save_image: Save) -> None:
    """Files and folders together: in the order given, a folder's name before its files'."""
    save_image(tmp_path / "z.png", drawn)
    rows, _ = run([tmp_path / "z.png", folder], tmp_path / "out")
    assert [row["file"] for row in rows] == ["z.png", "in/a.png", "in/b.jpg", "in/c.tif"]
    assert (tmp_path / "out" / "masks" / "in" / "b.jpg.png").is_file()


@pytest.mark.parametrize(
    "names",
    [
        ("b.jpg", "b.jpg.png"),
        ("d.jpg", "d.jpg.png/e.png"),
        ("x.png", "x.jpg/e.png"),  # their gallery pictures: a file and a folder of one name
        ("k.png", "k.png/e.png"),
    ],
)
def test_inputs_that_would_share_an_output_cost_their_rows_alone(
    folder: Path, tmp_path: Path, drawn: Array, save_image: Save, names: tuple[str, str]
) -> None:
    """Of two images whose outputs would be one file, or a file and a folder, the first is done; the others too."""
    given = []
    for number, name in enumerate(names):
        path = tmp_path / str(number) / Path(name).name  # no file system holds k.png and k.png/ in one folder
        path.parent.mkdir()
        save_image(path, drawn[number:])
        given.append(Input(path, name))
    inputs = [*find_inputs([folder], False, tmp_path / "out").inputs, *given]
    inputs = list({item.file: item for item in inputs}.values())
    options = Options()
    for _ in range(2):
        counts = run_folder(inputs, tmp_path / "out", ThreadPool(make_session, options), options)
        assert (counts.ok, counts.failed) == (len(inputs) - 1, 1)
        rows = list(read_rows(tmp_path / "out" / RESULTS))
        assert [row["file"] for row in rows] == [item.file for item in inputs]
        failed = [row for row in rows if row["status"] == "failed"]
        assert [row["file"] for row in failed] == [names[1]]
        assert f"its mask would be that of {names[0]}" in failed[0]["error"]
        first = next(item for item in inputs if item.file == names[0])
        mask = make_session().segment(cv2.imread(str(first.path), cv2.IMREAD_GRAYSCALE)).mask  # type: ignore[arg-type]
        assert np.array_equal(read_mask(tmp_path / "out" / "masks" / first.name) > 0, mask)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".tmp")]


def test_one_file_given_twice_is_segmented_once(folder: Path, tmp_path: Path) -> None:
    """The second has a row of its own, which says why."""
    rows, _ = run([folder / "a.png", folder / "a.png"], tmp_path / "out")
    assert [(row["file"], row["status"]) for row in rows] == [("a.png", "ok"), ("a.png", "failed")]


def test_results_of_a_run_below_the_input_are_left_out(folder: Path, tmp_path: Path) -> None:
    """An earlier OUT in the folder holds masks, which are no images to segment: a line says so, and no row."""
    run(folder, folder / "sub" / "earlier")
    found = find_inputs([folder], True, tmp_path / "out")
    assert [item.file for item in found.inputs] == ["a.png", "b.jpg", "c.tif"]
    assert [str(folder / "sub" / "earlier") in note for note in found.notes] == [True]
    with pytest.raises(
        EdgeSegError, match=r"no images in it; .*/earlier: left out, since it holds the results of a run"
    ):
        find_inputs([folder / "sub" / "earlier"], True, tmp_path / "out")


def test_files_of_other_kinds_are_counted_by_what_they_hold(folder: Path, tmp_path: Path) -> None:
    """One line: how many of which kind, and what reads them; by their bytes, since many have no suffix."""
    (folder / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(300))
    (folder / "IM0002").write_bytes(bytes(128) + b"DICM" + bytes(300))
    (folder / "a.webp").write_bytes(b"RIFF\0\0\0\0WEBPVP8 ")
    (folder / "a.jp2").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n")
    (folder / "picture").write_bytes((folder / "a.png").read_bytes())
    (folder / "labels.csv").write_text("id,class")
    (folder / ".hidden").write_text("nothing")
    os.mkfifo(folder / "pipe")
    found = find_inputs([folder], False, tmp_path / "out")
    assert len(found.inputs) == 3
    (note,) = found.notes
    assert note.startswith("left out 7 files without an image's suffix: 2 DICOM files (")
    for part in ("1 WebP (", "1 JPEG 2000 (", "1 PNG without its suffix (", "2 of another kind"):
        assert part in note
    for path in folder.glob("*.*"):
        path.unlink() if path.suffix in (".png", ".jpg", ".tif") else None
    with pytest.raises(EdgeSegError, match=r"no images in it; left out 7 files .* 2 DICOM"):
        find_inputs([folder], False, tmp_path / "out")


def test_a_folder_without_permission_is_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    """Such as lost+found: the others' images are done, and the exit status is 3."""
    locked, out = folder / "lost+found", tmp_path / "out"
    locked.mkdir(mode=0o000)
    command = [sys.executable, "-m", "edge_runtime.cli", str(folder), "--recursive", "--quiet", "-o", str(out)]
    if os.geteuid() == 0:  # root without its right to read everything
        command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "lost+found: left out: Permission denied; check its permissions" in done.stderr
    assert len(read_results(out)) == 3
    assert json.loads((out / "run.json").read_text())["unreadable"] == [str(locked)]


def test_the_output_folder_is_no_input(folder: Path) -> None:
    """OUT inside the input folder is passed by; inputs inside OUT are refused."""
    first, _ = run(folder, folder / "out", recursive=True)
    again, kept = run(folder, folder / "out", recursive=True)
    assert len(first) == len(again) == kept == 3
    with pytest.raises(EdgeSegError, match="lies in the output folder"):
        run(folder / "out" / "masks", folder / "out")


@pytest.mark.parametrize(
    "name",
    [
        "line\nbreak.png",
        "carriage\rreturn.png",
        "a,\"b\",'c'.png",
        " spaces  .png",
        "-o.png",
        "日本語 é.png",
        "=1+1.png",
        "\u2028.png",
        os.fsdecode(b"\xff\xe9.png"),
        "%41#?.png",
        "n" * 251 + ".png",
        "é" * 123 + "12345.png",
    ],
)
def test_any_name_comes_back(tmp_path: Path, drawn: Array, save_image: Save, name: str) -> None:
    """Newlines, quotes, other scripts, bytes that are no UTF-8, 255 bytes: file, mask, row and resume work."""
    (tmp_path / "in").mkdir()
    save_image(tmp_path / "x.png", drawn)
    (tmp_path / "x.png").rename(tmp_path / "in" / name)
    run(tmp_path / "in", tmp_path / "out")
    (row,) = read_results(tmp_path / "out")
    cell = f"'{name}" if name[0] in "=+-@" else name  # a spreadsheet would take it for a formula
    assert (row["file"], row["status"], row["error"]) == (cell, "ok", "")
    assert (tmp_path / "out" / "masks" / name).is_file()
    assert run(tmp_path / "in", tmp_path / "out")[1] == 1


def test_a_name_too_long_for_its_mask_is_that_images_error(folder: Path, tmp_path: Path) -> None:
    """255 bytes ending in .jpg leave no room for .png: one failed row, and none of its outputs stays."""
    long = "n" * 251 + ".jpg"
    (folder / "b.jpg").rename(folder / long)
    rows, _ = run(folder, tmp_path / "out", probability=True)
    failed = [row for row in rows if row["status"] == "failed"]
    assert [row["file"] for row in failed] == [long]
    assert "rename it" in failed[0]["error"]
    assert failed[0]["lesion_pixels"] == ""
    assert not [name for name in list_outputs(tmp_path / "out") if "nnn" in name]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG])
def test_a_name_that_out_cannot_hold_is_that_images_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As exFAT refuses `scan 12:30:05.png`: one failed row, and the others are done."""
    (folder / "b.jpg").rename(folder / "b 12:30:05.jpg")
    real = os.rename

    def refuse_colons(source: str, target: str, **folders: int) -> None:
        if ":" in target:
            raise OSError(code, os.strerror(code), target)
        real(source, target, **folders)

    monkeypatch.setattr(os, "rename", refuse_colons)
    rows, _ = run(folder, tmp_path / "out")
    assert [(row["file"], row["status"]) for row in rows] == [
        ("a.png", "ok"),
        ("b 12:30:05.jpg", "failed"),
        ("c.tif", "ok"),
    ]
    assert "its outputs cannot be named" in rows[1]["error"]


# --- what fails alone --------------------------------------------------------------------------------------------


def test_bad_images_fail_alone(folder: Path, tmp_path: Path) -> None:
    """A text, a cut PNG, nothing, a bomb, a folder, a pipe and a loop of links each make a row; the rest is done."""
    (folder / "text.png").write_text("hello")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:-200])
    (folder / "empty.png").write_bytes(b"")
    (folder / "bomb.png").write_bytes(make_bomb())
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    rows, _ = run(folder, tmp_path / "out")
    assert [row["file"] for row in rows if row["status"] == "ok"] == ["a.png", "b.jpg", "c.tif"]
    failed = {row["file"]: row for row in rows if row["status"] == "failed"}
    assert set(failed) == {f"{name}.png" for name in ("text", "cut", "empty", "bomb", "loop", "gone", "pipe")}
    for name, row in failed.items():
        assert row["error"].startswith(f"{name}: ")
        assert "\n" not in row["error"]
        assert row["lesion_pixels"] == row["max_probability"] == ""
        assert not (tmp_path / "out" / "masks" / name).exists()
    assert read_results(tmp_path / "out") == rows


@pytest.mark.parametrize("workers", [1, 2])
def test_an_output_that_is_not_finite_is_no_mask(folder: Path, tmp_path: Path, workers: int) -> None:
    """NaN from the model fails that image, without a mask, and no other."""

    def answer(tensor: Array) -> Array:
        return tensor * np.nan if (tensor[0, 0] == 1).all() else tensor

    white = np.full((40, 40), 255, np.uint8)
    (folder / "b.png").write_bytes(cv2.imencode(".png", white)[1].tobytes())
    rows, _ = run(folder, tmp_path / "out", lambda: make_session(answer), workers=workers)
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "ok"] or [row["file"] for row in rows] != sorted(
        row["file"] for row in rows
    )
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert failed["file"] == "b.png"
    assert "not finite" in failed["error"]
    assert not list((tmp_path / "out").rglob("b.png"))


def test_an_engine_that_fails_fails_that_image(folder: Path, tmp_path: Path) -> None:
    """An engine's error on one image is its row; the run goes on."""

    def answer(tensor: Array) -> Array:
        if not calls:
            calls.append(1)
            raise EngineError("engine fake", "inference failed", "try another")
        return tensor

    calls: list[int] = []
    rows, _ = run(folder, tmp_path / "out", lambda: make_session(answer))
    assert [row["status"] for row in rows] == ["failed", "ok", "ok"]
    assert rows[0]["error"] == "a.png: engine fake: inference failed; try another"


def test_want_of_memory_fails_that_image(folder: Path, tmp_path: Path) -> None:
    """An image that does not fit into memory does not end the run."""

    def answer(tensor: Array) -> Array:
        if not calls:
            calls.append(1)
            raise MemoryError
        return tensor

    calls: list[int] = []
    rows, _ = run(folder, tmp_path / "out", lambda: make_session(answer))
    assert [row["status"] for row in rows] == ["failed", "ok", "ok"]
    assert "memory" in rows[0]["error"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (2000, 1), (3, 2)])
def test_thin_images_pass(tmp_path: Path, save_image: Save, shape: tuple[int, int]) -> None:
    """One pixel, one row, one column are images."""
    (tmp_path / "in").mkdir()
    save_image(tmp_path / "in" / "a.png", np.full(shape, 200, np.uint8))
    rows, _ = run(tmp_path / "in", tmp_path / "out")
    assert rows[0]["status"] == "ok"
    assert read_mask(tmp_path / "out" / "masks" / "a.png").shape == shape


# --- what is remembered ------------------------------------------------------------------------------------------


def test_a_second_run_does_nothing_again(folder: Path, tmp_path: Path) -> None:
    """The same command on finished work infers nothing and writes the same results."""
    load, seen = counting()
    first, _ = run(folder, tmp_path / "out", load)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "masks").iterdir()}
    again, kept = run(folder, tmp_path / "out", load)
    assert (seen(), kept) == (3, 3)
    assert first == again
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "masks").iterdir()}


def test_only_what_is_missing_or_changed_is_done(folder: Path, tmp_path: Path, drawn: Array, save_image: Save) -> None:
    """A deleted mask, a cut overlay, a changed input, a new input: each is done, and nothing else."""
    out = tmp_path / "out"
    load, seen = counting()
    run(folder, out, load)

    def redone() -> list[str]:
        before = {path.name: path.stat().st_mtime_ns for path in (out / "masks").iterdir()}
        count = seen()
        rows, kept = run(folder, out, load)
        after = {path.name: path.stat().st_mtime_ns for path in (out / "masks").iterdir()}
        changed = sorted(name for name in after if after[name] != before.get(name))
        assert seen() - count == len(changed) == len(rows) - kept
        return changed

    assert redone() == []
    (out / "masks" / "b.jpg.png").unlink()
    assert redone() == ["b.jpg.png"]
    (out / "overlays" / "a.jpg").write_bytes(b"cut")
    assert redone() == ["a.png"]
    save_image(folder / "a.png", drawn[::-1])
    assert redone() == ["a.png"]
    save_image(folder / "d.png", drawn)
    assert redone() == ["d.png"]
    os.utime(folder / "a.png")
    assert redone() == []


def test_other_options_and_another_model_do_all_again(folder: Path, tmp_path: Path) -> None:
    """Threshold, kinds of output, model, engine: where one differs nothing is kept."""

    class Other(type(make_session().engine)):  # type: ignore[misc]
        version = "2"

    def load_other_engine() -> Session:
        session = make_session()
        session.engine.__class__ = Other
        return session

    def load_other_model() -> Session:
        session = make_session()
        contract = session.contract
        changed = {**vars(contract), "digest": "1" * 64}
        return Session(Contract(**changed), session.engine)

    out = tmp_path / "out"
    assert run(folder, out)[1] == 0
    assert run(folder, out)[1] == 3
    assert run(folder, out, lambda: make_session(threshold=0.4))[1] == 0
    assert run(folder, out, load_other_engine)[1] == 0
    assert run(folder, out, load_other_model)[1] == 0
    assert run(folder, out, load_other_model, probability=True)[1] == 0
    assert run(folder, out, load_other_model, probability=True, workers=2)[1] == 3
    assert run(folder, out, load_other_model, probability=True, force=True)[1] == 0


def test_outputs_of_an_earlier_run_do_not_outlive_their_image(folder: Path, tmp_path: Path) -> None:
    """When an image fails, or an output is no longer wanted, the earlier run's file is removed."""
    out = tmp_path / "out"
    run(folder, out, probability=True)
    (folder / "a.png").write_bytes(b"now damaged")
    rows, _ = run(folder, out, overlay="none")
    assert [row["status"] for row in rows] == ["failed", "ok", "ok"]
    assert not list(out.rglob("a.png"))
    assert list_outputs(out) >= {"masks/b.jpg.png", "gallery/b.jpg.jpg"}
    assert not [name for name in list_outputs(out) if name.startswith(("overlays/", "probability/", "gallery/a"))]


@pytest.mark.parametrize(
    "line",
    [
        b"\0\0\0\0",
        b"not json",
        b"[]",
        b"null",
        b'{"key":1,"row":{"file":"a.png"},"outputs":{}}',
        b'{"key":"1","row":{"file":["a.png"]},"outputs":{}}',
        b'{"key":"1","row":[],"outputs":{}}',
        b'{"key":"1","row":{"file":"a.png"},"outputs":[]}',
        b'{"key":"1","row":{"file":"a.png"},"outputs":{"masks/a.png":"1"}}',
        b'{"key":"1","row":{"file":"a.png"},"outputs":{},"more":1}',
        b"[" * 3000,
        b"\xff\xfe",
    ],
)
def test_a_damaged_journal_costs_work_not_results(folder: Path, tmp_path: Path, line: bytes) -> None:
    """Lines that are cut off, of zeros or of another shape are ignored; their images are processed again."""
    out = tmp_path / "out"
    run(folder, out)
    lines = (out / JOURNAL).read_bytes().splitlines(keepends=True)
    (out / JOURNAL).write_bytes(line + b"\n" + lines[1] + lines[2][: len(lines[2]) // 2])
    rows, kept = run(folder, out)
    assert ([row["status"] for row in rows], kept) == (["ok"] * 3, 1)
    assert run(folder, out)[1] == 3


def test_workers_give_the_same_rows(folder: Path, tmp_path: Path, drawn: Array, save_image: Save) -> None:
    """Two images at a time: the same rows in the same order, the same masks, one session for each worker."""
    for k in range(8):
        save_image(folder / f"m{k}.png", drawn[k:])
    (folder / "bad.png").write_bytes(b"")
    threads: set[int] = set()
    loaded: list[Session] = []

    def answer(tensor: Array) -> Array:
        threads.add(threading.get_ident())
        return tensor

    def load() -> Session:
        loaded.append(make_session(answer))
        return loaded[-1]

    one, _ = run(folder, tmp_path / "one")
    two, _ = run(folder, tmp_path / "two", load, workers=2)
    assert without_times(one) == without_times(two)
    assert len(loaded) == len(threads) <= 2
    for path in (tmp_path / "one" / "masks").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "masks" / path.name).read_bytes()


def test_a_run_that_was_cut_short_goes_on(folder: Path, tmp_path: Path) -> None:
    """An interrupt keeps what is done; the next run does the rest, sweeps up, and its rows are those of one run."""

    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    inputs = find_inputs([folder], False, out).inputs
    with pytest.raises(KeyboardInterrupt):
        run_folder(inputs, out, ThreadPool(make_session, Options()), Options(), stop)
    assert not (out / "results.csv").exists()
    (out / "masks" / ".tmp-edge-seg-1-2").write_bytes(b"half")
    rows, kept = run(folder, out)
    assert kept == 2
    whole, _ = run(folder, tmp_path / "whole")
    assert without_times(rows) == without_times(whole)
    assert list_outputs(out) == list_outputs(tmp_path / "whole")


def test_a_run_killed_before_its_journal_can_be_repeated(folder: Path, tmp_path: Path) -> None:
    """Between making OUT and the journal nothing foreign lies there: the same command works without --force."""
    out = tmp_path / "out"
    out.mkdir()
    (out / LOCK).write_text("12")
    (out / ".tmp-edge-seg-12-abcdef").write_bytes(b"half a journal")
    assert run(folder, out)[1] == 0
    assert not list(out.glob(".tmp*"))


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_folder_with_foreign_files_is_not_written_to(folder: Path, tmp_path: Path) -> None:
    """Files that are no run's are not mixed with one, unless there is --force, and then they stay."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        run(folder, out)
    assert list(out.iterdir()) == [out / "thesis.txt"]
    run(folder, out, force=True)
    assert (out / "thesis.txt").read_text() == "mine"


def test_a_model_that_fails_to_load_leaves_no_folder(folder: Path, tmp_path: Path) -> None:
    """Nothing is written before the model runs."""

    def load() -> Session:
        raise EngineError("engine fake", "it is not installed", "install it")

    with pytest.raises(EngineError):
        run(folder, tmp_path / "out", load)
    assert not (tmp_path / "out").exists()


def test_out_that_cannot_be_a_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    """OUT, or a parent of it, is a file; its masks folder is a file: one OutputError."""
    (tmp_path / "file").write_bytes(b"")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(OutputError):
            run(folder, out)
    out = tmp_path / "out"
    run(folder, out)
    shutil.rmtree(out / "overlays")
    (out / "overlays").write_bytes(b"")
    with pytest.raises(OutputError):
        run(folder, out)


def test_a_folder_in_the_way_of_one_output_costs_that_images_row(folder: Path, tmp_path: Path) -> None:
    """The folder stays, the image fails, and the others are done; without the folder it is done too."""
    out = tmp_path / "out"
    run(folder, out)
    (out / "overlays" / "a.jpg").unlink()
    (out / "overlays" / "a.jpg").mkdir()
    rows, kept = run(folder, out)
    assert [row["status"] for row in rows] == ["failed", "ok", "ok"]
    assert "a.png: its outputs cannot be named" in rows[0]["error"]
    assert kept == 2
    (out / "overlays" / "a.jpg").rmdir()
    assert [row["status"] for row in run(folder, out)[0]] == ["ok", "ok", "ok"]


def test_another_model_is_refused_unless_forced(folder: Path, tmp_path: Path) -> None:
    """One line with both models' names; nothing in OUT is touched. With --force all is done again."""

    def load_other_model() -> Session:
        session = make_session()
        contract = session.contract
        model = replace(contract.model, id="other-net", version="7", sha256="2" * 64)
        return Session(Contract(**{**vars(contract), "model": model}), session.engine)

    out = tmp_path / "out"
    run(folder, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != LOCK}
    own = make_session().contract.model
    with pytest.raises(OutputError, match=f"results of model {own.id} {own.version} .*this is other-net 7"):
        run(folder, out, load_other_model)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != LOCK} == before
    assert run(folder, out, load_other_model, force=True)[1] == 0
    assert run(folder, out, load_other_model)[1] == 3


def test_two_runs_do_not_share_a_folder(folder: Path, tmp_path: Path) -> None:
    """While one run uses OUT another is refused, with the first one's process in the error."""
    out = tmp_path / "out"
    out.mkdir()
    with (out / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("4711")
        file.flush()
        with pytest.raises(OutputError, match="process 4711"):
            run(folder, out)
    run(folder, out)


def test_inputs_that_do_not_exist_or_hold_no_image(tmp_path: Path) -> None:
    """A missing folder, an empty one, one with texts only: each has its own error."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, words in (("none", "no such file"), ("empty", "no images"), ("texts", "no images")):
        with pytest.raises(EdgeSegError, match=words):
            find_inputs([tmp_path / name], False, tmp_path / "out")


def test_a_loop_of_folders_is_walked_once(folder: Path, tmp_path: Path) -> None:
    """A link to a parent folder is not followed."""
    (folder / "up").symlink_to("..")
    assert len(find_inputs([folder], True, tmp_path / "out").inputs) == 3


def test_the_journal_is_plain_json(folder: Path, tmp_path: Path) -> None:
    """One line for each image that is done: its key, its row, its outputs' sizes."""
    run(folder, tmp_path / "out")
    for line in (tmp_path / "out" / JOURNAL).read_text("ascii").splitlines():
        done = json.loads(line)
        assert set(done) == {"key", "row", "outputs"}
        for name, size in done["outputs"].items():
            assert (tmp_path / "out" / name).stat().st_size == size


def test_a_process_forked_during_a_run_does_not_keep_its_folder(tmp_path: Path) -> None:
    """Whatever program was started meanwhile and still holds the lock's file open, the next run may begin."""
    with lock_output(tmp_path):
        held = next(fd for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and fd.readlink().name == LOCK)
        copy = os.dup(int(held.name))  # what a child has between fork and exec
    try:
        with lock_output(tmp_path):
            pass
    finally:
        os.close(copy)
