"""Limits of the flags that a conversion stamps, given, measured or by default, and golden vectors."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from convert.restamp import main
from convert.stamp.contract_file import read_settings
from convert.stamp.flag_limits import DEFAULTS, choose_flag_limits, find_span, list_images, measure_flag_limits
from convert.stamp.golden_vectors import AIM_BYTES, draw_files, make_golden
from edge_runtime.checks.golden_vectors import from_json, make_case, to_json
from edge_runtime.checks.selftest import run_case, run_selftest
from edge_runtime.contract.fields import FLAG_FEATURES, ClassSpec, FlagLimits, InputSpec, Label, OutputSpec
from edge_runtime.contract.tail import read_contract, split_tail, stamp_contract
from edge_runtime.errors import ContractError
from edge_runtime.images import read_image
from edge_runtime.images.read import decode_image
from edge_runtime.inference.flags import find_features, flag_input
from edge_runtime.inference.session import Session
from edge_runtime.models import DEFAULT
from reference.data.phantom import draw_folder


@pytest.fixture(scope="module")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_folder(24, folder, seed=3, size=96)
    return folder


def say(text: str) -> None:
    raise AssertionError(text)


def choose(tmp_path: Path, text: str, images: list[Path] | None = None) -> FlagLimits | None:
    """Return the triage of a TOML file of that text."""
    path = tmp_path / "m.contract.toml"
    path.write_text(text)
    return choose_flag_limits(read_settings(path).triage, str(path), images or [])


def test_without_images_there_are_limits_alone() -> None:
    """Nothing given, nothing measured: the defaults, and no feature has a range; so with too few images."""
    assert choose_flag_limits(None, "", []) == DEFAULTS
    assert DEFAULTS.ranges == {} and DEFAULTS.count == 0
    assert measure_flag_limits([Path("none.png")] * 30) == DEFAULTS


def test_images_set_ranges_in_which_they_lie(drawn_folder: Path) -> None:
    """What was measured is not flagged, what is far from it is; unreadable files are left out."""
    images = list_images(drawn_folder / "images")
    found = measure_flag_limits([*images, drawn_folder / "labels.csv"])
    assert found.count == 24
    assert set(found.ranges) == set(FLAG_FEATURES)
    assert found.ranges["side"] == (24.0, 384.0)
    features = [find_features(read_image(path)) for path in images]
    assert sum(flag_input(one, found) != [] for one in features) <= 1
    for name in ("mean", "contrast", "border", "dark", "edges"):
        values = [one[name] for one in features]
        low, high = np.percentile(values, [0.5, 99.5])
        more = max(0.02, (0.1 + 2 / 24) * (high - low))
        assert found.ranges[name] == pytest.approx((low - more, high + more), rel=1e-3)
    assert flag_input(find_features(255 - read_image(images[0])), found)[0] == "inverted"


def test_masks_set_how_large_and_how_many(drawn_folder: Path, tmp_path: Path) -> None:
    """Half as large again as the largest lesion, twice as many parts as there ever were, four at least."""
    shares = [float((read_image(path) > 0).mean()) for path in (drawn_folder / "masks").glob("*.png")]
    found = choose(tmp_path, f"[triage]\nimages = '{drawn_folder}/images'\nmasks = '{drawn_folder}/masks'\n")
    assert found is not None
    assert found.largest == pytest.approx(1.5 * max(shares), rel=1e-3)
    assert found.fragments == 4


def test_what_is_said_wins(drawn_folder: Path, tmp_path: Path) -> None:
    """Over what is measured, on a folder beside the file or on the command line's; false is none at all."""
    images = list_images(drawn_folder / "images")
    found = choose(tmp_path, "[triage]\nlargest = 0.2\ncount = 900\nranges = {border = [0.0, 0.5]}\n", images)
    assert found is not None
    assert (found.largest, found.count, found.ranges["border"]) == (0.2, 900, (0.0, 0.5))
    assert found.ranges["edges"] == measure_flag_limits(images).ranges["edges"]
    (tmp_path / "own").symlink_to(drawn_folder / "images")
    beside = choose(tmp_path, "triage = {images = 'own'}")
    assert beside is not None and beside.count == 24
    assert choose(tmp_path, "triage = false", images) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("triage = 1", "neither a table nor false"),
        ("triage = true", "neither a table nor false"),
        ("triage = {blanc = 0.1}", "unknown contract field 'triage.blanc'; did you mean 'blank'?"),
        ("triage = {blank = 2}", "'triage.blank' is 2, not from 0 to 1"),
        ("triage = {fragments = 1.5}", "'triage.fragments' is 1.5"),
        ("triage = {images = 1}", "'triage.images' is not the path of a folder"),
        ("triage = {masks = 'x'}", "'triage.masks' stands without 'triage.images'"),
        ("triage = {images = 'nowhere'}", "no such file or folder"),
        ("triage = {ranges = 1}", "'triage.ranges' is not a table"),
        ("triage = {ranges = {bordr = [0, 1]}}", "did you mean 'border'?"),
        ("triage = {ranges = {border = [1, 0]}}", "is [1, 0], not [low, high]"),
        ("triage = {ranges = {border = 1}}", "is not two numbers"),
    ],
)
def test_mistakes_in_triage_are_named(tmp_path: Path, text: str, words: str) -> None:
    """A wrong key, value or folder is one line that names the file and the field."""
    with pytest.raises(ContractError) as caught:
        choose(tmp_path, text)
    assert words in str(caught.value), caught.value
    assert str(caught.value).startswith(str(tmp_path / "m.contract.toml"))


def test_few_images_make_wide_ranges() -> None:
    """A tenth of the span and two spans an image wider at each end; never less than 0.02."""
    values = np.linspace(0.2, 0.8, 1001)
    low, high = find_span(values, 20)
    assert (low, high) == pytest.approx((0.203 - 0.2 * 0.594, 0.797 + 0.2 * 0.594), abs=1e-6)
    assert find_span(np.zeros(50), 50) == (-0.02, 0.02)


def test_the_same_file_gets_the_same_vectors(tmp_path: Path) -> None:
    """Twice over: the same bytes, within the limit, of a grey, a 16-bit colour and a JPEG image."""
    contract = read_contract(DEFAULT)
    flatbuffer = split_tail(DEFAULT.read_bytes())[0]
    first = make_golden(flatbuffer, contract, tmp_path, say)
    assert first is not None and len(first) <= AIM_BYTES
    assert make_golden(flatbuffer, contract, tmp_path, say) == first
    assert [case.name for case in from_json(first)] == ["grey.png", "colour-16-bit.png", "colour.jpg"]


@pytest.mark.parametrize("size", [(8, 8), (64, 48), (192, 192), (1024, 768)])
def test_the_images_suit_any_model(size: tuple[int, int]) -> None:
    """They decode, shrink along one axis and grow along the other where the model is not large, and stay small."""
    spec = InputSpec((1, *size, 1), "float32", "grey", "stretch-area", 1.0, 0.0)
    gives = OutputSpec((1, *size, 1), "float32", "sigmoid", (Label("lesion", (255, 0, 0)),))
    contract = dataclasses.replace(read_contract(DEFAULT), input=spec, output=gives)
    files = dict(draw_files(contract, 512))
    images = {name: decode_image(data, name) for name, data in files.items()}
    assert images["colour-16-bit.png"].dtype == np.uint16 and images["colour-16-bit.png"].shape[2] == 3
    assert sum(map(len, files.values())) < 45_000
    if 64 <= max(size) < 300:
        height, width = images["grey.png"].shape
        assert height > size[0] and width < size[1]


def test_vectors_of_volumes_classes_and_several_lesions() -> None:
    """A case of a model of volumes that also classifies, with a softmax over three labels: written and read again."""

    class Engine:
        name, version = "drawn", "1"

        def infer_both(self, tensor: Any) -> Any:
            assert tensor.shape == (1, 3, 8, 8, 1)
            flat = np.full((1, 3, 8, 8, 3), 1 / 3, np.float32)
            return flat, np.array([[0.25, 0.75]], np.float32)

    contract = dataclasses.replace(
        read_contract(DEFAULT),
        input=InputSpec((1, 3, 8, 8, 1), "float32", "grey", "stretch-area", 1.0, 0.0),
        output=OutputSpec(
            (1, 3, 8, 8, 3), "float32", "softmax", tuple(Label(name, (1, 2, 3)) for name in ("none", "a", "b"))
        ),
        classes=ClassSpec((1, 2), "softmax", ("no", "yes")),
    )
    session: Any = Session(contract, Engine())  # type: ignore[arg-type]
    data = cv2.imencode(".png", np.arange(120, dtype=np.uint8).reshape(10, 12))[1].tobytes()
    (case,) = from_json(to_json([make_case(session, "a.png", data)]))
    assert case.infer is not None and [list(one.shape) for one in case.infer] == [[1, 3, 8, 8, 3], [1, 2]]
    assert case.postprocess is not None and {0, 1, 2} <= set(case.postprocess["labels"])
    assert [step.differs for step in run_case(session, case)] == ["", "", "", ""]


def test_an_older_file_is_stamped_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its flatbuffer and its other fields stay; triage and golden vectors come; nothing is overwritten unasked."""
    flatbuffer, contract = split_tail(DEFAULT.read_bytes())[0], read_contract(DEFAULT)
    old, new, toml = tmp_path / "old.tflite", tmp_path / "new.tflite", tmp_path / "m.toml"
    old.write_bytes(stamp_contract(flatbuffer, dataclasses.replace(contract, triage=None)))
    toml.write_text("triage = {largest = 0.125}")
    assert main([str(old), "-o", str(new), "--contract", str(toml)]) == 0
    found = read_contract(new, verify=True)
    assert found.triage == dataclasses.replace(DEFAULTS, largest=0.125)
    same = {"triage": None, "golden": None, "digest": contract.digest}
    assert dataclasses.replace(found, **same) == dataclasses.replace(contract, **same)
    assert split_tail(new.read_bytes())[0] == flatbuffer
    assert run_selftest(new).diverged is None
    assert main([str(new), "-o", str(new)]) == 1
    assert "it exists already; say --force" in capsys.readouterr().err
    assert main([str(new), "-o", str(new), "--force"]) == 0
    assert read_contract(new).triage == found.triage
    toml.write_text('quality = {n = 9, split = "other patients", dice = 0.5}')
    assert main([str(new), "-o", str(new), "--force", "--contract", str(toml)]) == 0
    assert read_contract(new).quality == {"n": 9, "split": "other patients", "dice": 0.5}
    assert main([str(new)]) == 2


def test_the_embedded_model_says_what_its_record_says() -> None:
    """Its triage is that of records/default-model, number by number."""
    record = Path(__file__).parents[3] / "records" / "default-model" / "default.contract.toml"
    assert choose_flag_limits(read_settings(record).triage, str(record), []) == read_contract(DEFAULT).triage
