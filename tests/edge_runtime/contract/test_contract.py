"""The contract's format: byte for byte as specified, strict in what it reads, one line for what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.contract.fields import (
    Acquisition,
    Calibration,
    ClassSpec,
    Contract,
    FlagLimits,
    GoldenFacts,
    InputSpec,
    Intensity,
    Label,
    ModelFacts,
    OutputSpec,
    SourceModel,
    Threshold,
)
from edge_runtime.contract.json_text import from_json, to_json
from edge_runtime.contract.tail import build_tail, check_model, read_contract, read_golden, split_tail, stamp_contract
from edge_runtime.errors import ContractError, ModelError

FLATBUFFER = b"\x1c\x00\x00\x00TFL3rest"
# Written by hand from the specification; its digests by sha256sum, its CRC-32 by gzip.
JSON = (
    '{"allowed":["size"],"calibration":null,'
    '"digest":"1f5d30e5f5a7a23941e4fd81514fc9ee8c0365a53b5b64c733c54870557db750",'
    '"format":"edge-seg/1",'
    '"input":{"colour":"grey","dtype":"float32","offset":0.0,"resize":"stretch-area",'
    '"scale":0.00392156862745098,"shape":[1,4,6,1]},'
    '"intended_use":"Tests \u2014 only.",'
    '"model":{"bytes":12,"id":"tiny",'
    '"sha256":"4f67feedc47a6a6db9388e0465c89e292183bffe18f65c3f2b0f389ba2c959fb","version":"1"},'
    '"output":{"activation":"sigmoid","dtype":"float32",'
    '"labels":[{"colour":[255,0,0],"name":"lesion"}],"shape":[1,4,6,1]},'
    '"quality":{"dice":0.5,"n":3,"split":"drawn"},"recipe":"drq",'
    '"source":{"sha256":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",'
    '"versions":{"keras":"3.15.1"}},'
    '"threshold":{"from":"default","value":0.5}}'
).encode()
TAIL = (
    bytes.fromhex("504b0304 1400 0000 0000 0000 2100 d943b072 f6020000 f6020000 0d00 0000")
    + b"contract.json"
    + JSON
    + bytes.fromhex("504b0102 1400 1400 0000 0000 0000 2100 d943b072 f6020000 f6020000 0d00")
    + bytes(16)
    + b"contract.json"
    + bytes.fromhex("504b0506 0000 0000 0100 0100 3b000000 21030000 0000")
)


def make_contract(**changes: Any) -> Contract:
    """Return the contract that JSON spells, not yet stamped."""
    contract = Contract(
        model=ModelFacts("tiny", "1"),
        input=InputSpec((1, 4, 6, 1), "float32", "grey", "stretch-area", 1 / 255, 0.0, scale_from=None),
        output=OutputSpec((1, 4, 6, 1), "float32", "sigmoid", (Label("lesion", (255, 0, 0)),)),
        threshold=Threshold(0.5, "default"),
        recipe="drq",
        calibration=None,
        source=SourceModel("00112233445566778899aabbccddeeff" * 2, {"keras": "3.15.1"}),
        quality={"n": 3, "split": "drawn", "dice": 0.5},
        intended_use="Tests — only.",
        allowed=("size",),
        format="edge-seg/1",
    )
    return dataclasses.replace(contract, **changes)


@pytest.fixture
def stamped(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(FLATBUFFER + TAIL)
    return path


def refusal(path: Path, **options: Any) -> str:
    """Return the one line with which a file is refused."""
    with pytest.raises(ContractError) as caught:
        read_contract(path, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line


def edited(change: Any, redigest: bool = True) -> bytes:
    """Return the stamped model with its JSON changed by a careful forger, who computes digest and CRC anew."""
    fields = json.loads(JSON)
    change(fields)
    if redigest and "digest" in fields:
        rest = {k: v for k, v in fields.items() if k != "digest"}
        fields["digest"] = hashlib.sha256(dump(rest)).hexdigest()
    return FLATBUFFER + build_tail(dump(fields))


def dump(fields: Any) -> bytes:
    return json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def test_stamping_gives_the_specified_bytes() -> None:
    """A stamped model is, byte for byte, what the specification defines, built by hand."""
    assert stamp_contract(FLATBUFFER, make_contract()) == FLATBUFFER + TAIL


def test_what_was_written_is_read(stamped: Path) -> None:
    """Reading gives back every field, and verifying finds the model unharmed."""
    contract = read_contract(stamped, verify=True)
    facts = ModelFacts("tiny", "1", 12, hashlib.sha256(FLATBUFFER).hexdigest())
    assert contract == make_contract(model=facts, digest=contract.digest)
    assert to_json(contract) == JSON
    assert from_json(JSON) == contract


def test_any_zip_reader_finds_the_contract(stamped: Path) -> None:
    """The tail is an ordinary ZIP archive, dated 1980 and stored."""
    with zipfile.ZipFile(stamped) as archive:
        (entry,) = archive.infolist()
        assert archive.testzip() is None
        assert (entry.filename, entry.date_time, entry.compress_type) == ("contract.json", (1980, 1, 1, 0, 0, 0), 0)
        assert archive.read(entry) == JSON


def test_split_tail_undoes_stamping() -> None:
    """The flatbuffer comes back as it was, and a stamped one is not stamped twice."""
    assert split_tail(FLATBUFFER + TAIL) == (FLATBUFFER, JSON)
    assert split_tail(FLATBUFFER) == (FLATBUFFER, None)
    with pytest.raises(ContractError, match="already has a contract"):
        stamp_contract(FLATBUFFER + TAIL, make_contract())


def test_softmax_calibration_and_nulls_survive(tmp_path: Path) -> None:
    """Labels, calibration and a null quality come back from a softmax model's contract."""
    labels = (Label("background", (0, 0, 0)), Label("core", (1, 2, 3)), Label("edema", (4, 5, 6)))
    contract = make_contract(
        output=OutputSpec((1, 2, 3, 3), "int8", "softmax", labels), calibration=Calibration(7, "a" * 64), quality=None
    )
    path = tmp_path / "m.tflite"
    path.write_bytes(stamp_contract(FLATBUFFER, contract))
    read = read_contract(path, verify=True)
    assert (read.output, read.calibration, read.quality) == (contract.output, contract.calibration, None)


def test_a_model_without_contract_says_what_to_do(tmp_path: Path) -> None:
    """A bare flatbuffer is refused with the command that makes a stamped one."""
    path = tmp_path / "bare.tflite"
    path.write_bytes(FLATBUFFER + bytes(200_000))
    assert refusal(path) == f"{path}: it has no contract; convert it with edge-convert"


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" + bytes(100), JSON])
def test_what_is_no_tflite_model_is_a_model_error(tmp_path: Path, data: bytes) -> None:
    """Files that are no flatbuffers are called just that."""
    path = tmp_path / "no.tflite"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="it is not a TFLite model"):
        read_contract(path)


def test_unreadable_paths_are_model_errors(tmp_path: Path) -> None:
    """A missing file, a folder and an impossible name are one line each."""
    for path, why in ((tmp_path / "gone", "does not exist"), (tmp_path, "not a file")):
        with pytest.raises(ModelError, match=why):
            read_contract(path)
    with pytest.raises(ModelError):
        read_contract("a\0b")


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    """A stamped file cut anywhere in its tail is never read."""
    path, whole = tmp_path / "cut.tflite", FLATBUFFER + TAIL
    for length in range(len(FLATBUFFER), len(whole)):
        path.write_bytes(whole[:length])
        refusal(path)


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    """A stamped file with any one byte of it changed is refused when verified."""
    path, whole = tmp_path / "bit.tflite", FLATBUFFER + TAIL
    for offset in range(len(whole)):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 4]) + whole[offset + 1 :])
        with pytest.raises((ContractError, ModelError)):
            read_contract(path, verify=True)


def test_other_zips_are_damage(tmp_path: Path) -> None:
    """Bytes appended, a second entry, and a re-zipped contract are refused."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("contract.json", JSON)
    path = tmp_path / "zip.tflite"
    for data in (FLATBUFFER + TAIL + b"\0", FLATBUFFER + buffer.getvalue()):
        path.write_bytes(data)
        assert "damaged" in refusal(path)
    path.write_bytes(FLATBUFFER + TAIL)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.txt", "x")
    assert "damaged" in refusal(path)


def test_an_edit_is_found_even_if_the_archive_is_well_formed(tmp_path: Path) -> None:
    """A threshold changed by someone who mends the ZIP but not the digest is found out."""
    path = tmp_path / "edit.tflite"
    path.write_bytes(edited(lambda f: f["threshold"].update(value=0.9), redigest=False))
    assert "was edited" in refusal(path)


def test_another_model_under_the_same_contract_is_found(tmp_path: Path) -> None:
    """A contract moved to another flatbuffer is refused: by length at once, by digest when verified."""
    path = tmp_path / "other.tflite"
    path.write_bytes(FLATBUFFER + b"!" + TAIL)
    assert "12 bytes" in refusal(path)
    path.write_bytes(FLATBUFFER[:-1] + b"!" + TAIL)
    contract = read_contract(path)
    assert "SHA-256" in refusal(path, verify=True)
    with pytest.raises(ContractError):
        check_model(path, contract)


def drop(name: str) -> Any:
    return lambda fields: fields.pop(name)


def put(path: str, value: Any) -> Any:
    def change(fields: Any) -> None:
        *outer, last = path.split(".")
        for name in outer:
            fields = fields[name]
        fields[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("treshold", 1), "unknown contract field 'treshold'; did you mean 'threshold'?"),
        (put("input.colr", 1), "unknown contract field 'input.colr'; did you mean 'colour'?"),
        (put("format", "edge-seg/3"), "unknown contract format 'edge-seg/3'; did you mean 'edge-seg/"),
        (put("format", 1), "unknown contract format 1"),
        (drop("quality"), "contract field 'quality' is missing"),
        (drop("digest"), "contract field 'digest' is missing"),
        (put("model.bytes", True), "'model.bytes' is True, not a whole number"),
        (put("model.bytes", 12.0), "'model.bytes' is 12.0, not a whole number"),
        (put("model.sha256", "A" * 64), "'model.sha256' is not a SHA-256"),
        (put("input.colour", "gray"), "not one of grey, rgb; did you mean 'grey'?"),
        (put("input.colour", "rgb"), "has 1 channels, but colour 'rgb' means 3"),
        (put("input.colour", ["grey"]), "not one of grey, rgb"),
        (put("input.dtype", "float16"), "'input.dtype' is 'float16'"),
        (put("input.shape", [1, 4, 6]), "not four numbers"),
        (put("input.shape", [2, 4, 6, 1]), "begins with 2, but the batch is 1"),
        (put("input.shape", [1, 0, 6, 1]), "'input.shape' is 0"),
        (put("input.shape", "1461"), "'input.shape' is not a list"),
        (put("input.scale", 0), "not above 0"),
        (put("input.scale", 1), "not canonical"),
        (put("input.scale", 10**400), "not a finite number"),
        (put("input.offset", True), "not a finite number"),
        (put("input.resize", "letterbox"), "not one of stretch-area"),
        (put("output.activation", "softmax"), "softmax takes 2 to 256 labels"),
        (put("output.labels", []), "sigmoid takes 1 to 255 labels"),
        (put("output.labels", [{"name": "a", "colour": [0, 0, 256]}]), "'output.labels.colour' is 256"),
        (put("output.labels", [{"name": "a", "color": [0, 0, 0]}]), "did you mean 'colour'?"),
        (put("output.labels", ["a"]), "'output.labels' is not an object"),
        (put("threshold.value", 1), "not between 0 and 1"),
        (put("threshold.value", "0.5"), "not a finite number"),
        (put("threshold", 0.5), "'threshold' is not an object"),
        (put("recipe", ""), "'recipe' is not a printable text"),
        (put("recipe", "a\nb"), "'recipe' is not a printable text"),
        (put("calibration", {"count": 0, "sha256": "a" * 64}), "'calibration.count' is 0"),
        (put("calibration", []), "'calibration' is not an object"),
        (put("source.versions", {}), "'source.versions' is not {package: version}"),
        (put("quality", {"n": 3}), "'quality.split' is missing"),
        (put("quality", {"n": 3, "split": "x", "dice": [1]}), "'quality.dice' is [1], not a finite number"),
        (put("quality", 1), "'quality' is neither null nor an object"),
        (put("allowed", "size"), "'allowed' is not a list"),
        (put("allowed", [1]), "'allowed' is not a printable text"),
        (put("intended_use", "x" * 70_000), "damaged"),
    ],
)
def test_each_wrong_field_is_named(tmp_path: Path, change: Any, words: str) -> None:
    """A forged contract with one wrong field is refused in one line that names the field."""
    path = tmp_path / "forged.tflite"
    path.write_bytes(edited(change))
    assert words in refusal(path)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b"{", b"\xff", b'{"a":NaN}', b'{"a":1,"a":1}', b"[" * 60_000, b"1" * 5000]
)
def test_what_is_no_contract_json_is_refused(text: bytes) -> None:
    """Broken, doubled, deep and non-finite JSON is a ContractError, not a crash."""
    with pytest.raises(ContractError):
        from_json(text)


def test_spelling_is_part_of_the_format() -> None:
    """The same fields with other spaces or another order are not canonical, and refused."""
    with pytest.raises(ContractError, match="not canonical"):
        from_json(json.dumps(json.loads(JSON), sort_keys=True, ensure_ascii=False).encode())


def test_a_contract_too_long_is_not_written() -> None:
    """More than 64 kB of JSON is refused by the writer."""
    quality = {"n": 1, "split": "x", **{f"k{i}": "v" * 900 for i in range(80)}}
    with pytest.raises(ContractError, match="more than 65536"):
        to_json(make_contract(quality=quality))


def test_reading_loads_no_more_than_the_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract of a large model is read without reading the model."""
    path = tmp_path / "large.tflite"
    path.write_bytes(stamp_contract(FLATBUFFER + bytes(5_000_000), make_contract()))
    read: list[int] = []
    original = io.BufferedReader.read

    class Counting(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            data = original(self, size)
            read.append(len(data))
            return data

    monkeypatch.setattr(Path, "open", lambda self, mode: Counting(io.FileIO(self)))
    read_contract(path)
    assert 0 < sum(read) < 70_000


def test_classes_are_written_only_where_there_are_some() -> None:
    """The one optional field: left out of a mask's contract, canonical like all others where a model classifies."""
    assert b"classes" not in to_json(make_contract())
    said = ClassSpec((1, 3), "softmax", ("none", "glioma", "cyst"))
    text = to_json(make_contract(classes=said))
    assert b'"classes":{"activation":"softmax","labels":["none","glioma","cyst"],"shape":[1,3]},"digest"' in text
    assert from_json(text).classes == said
    assert ClassSpec((1, 1), "sigmoid", ("no", "yes")).shape == (1, 1)


def test_a_volume_has_a_depth() -> None:
    """Five sides in, five out, of the same depth; an image has none."""
    eats = InputSpec((1, 8, 4, 6, 1), "float32", "grey", "stretch-area", 1 / 255, 0.0)
    gives = OutputSpec((1, 8, 4, 6, 1), "float32", "sigmoid", (Label("lesion", (255, 0, 0)),))
    contract = from_json(to_json(make_contract(input=eats, output=gives)))
    assert (contract.input.depth, contract.input.size) == (8, (4, 6))
    assert make_contract().input.depth is None
    for shape in ((1, 4, 6, 1), (1, 7, 4, 6, 1)):
        with pytest.raises(ContractError, match="volumes of the same depth"):
            make_contract(input=eats, output=OutputSpec(shape, "float32", "sigmoid", gives.labels))


def test_labels_of_a_sigmoid_are_all_lesions() -> None:
    """Several sigmoids are several lesions; the background of a softmax is none."""
    whole, core = Label("whole", (255, 0, 0)), Label("core", (0, 255, 0))
    assert OutputSpec((1, 4, 6, 2), "float32", "sigmoid", (whole, core)).lesions == (whole, core)
    assert OutputSpec((1, 4, 6, 2), "float32", "softmax", (whole, core)).lesions == (core,)
    with pytest.raises(ContractError, match="begins with a background"):
        OutputSpec((1, 4, 6, 2), "float32", "sigmoid", (Label("Background", (0, 0, 0)), core))


CLASSES = {"shape": [1, 2], "activation": "softmax", "labels": ["a", "b"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.update(clases=CLASSES), "unknown contract field 'clases'; did you mean 'classes'?"),
        (lambda f: f.update(classes=None), "'classes' is not an object"),
        (lambda f: f.update(classes={**CLASSES, "labels": ["a"]}), "has 1 names, the output has 2 classes"),
        (lambda f: f.update(classes={**CLASSES, "labels": ["a", "a"]}), "a name twice"),
        (lambda f: f.update(classes={**CLASSES, "shape": [1, 1]}), "not a whole number from 2"),
        (lambda f: f.update(classes={**CLASSES, "shape": [2, 2]}), "not two numbers [1, classes]"),
        (lambda f: f.update(classes={**CLASSES, "activation": "relu"}), "not one of sigmoid, softmax"),
        (lambda f: f.update(classes={"shape": [1, 2], "activation": "softmax"}), "'classes.labels' is missing"),
        (lambda f: f.update(classes={**CLASSES, "threshold": 0.5}), "unknown contract field 'classes.threshold'"),
    ],
)
def test_each_wrong_class_field_is_named(tmp_path: Path, change: Any, words: str) -> None:
    """The optional field is read as strictly as the others."""
    path = tmp_path / "forged.tflite"
    path.write_bytes(edited(change))
    assert words in refusal(path)


TRIAGE = FlagLimits(7, 0.02, 0.25, 0.5, 8, 0.05, {"border": (0.0, 0.25), "colour": (0.0, 0.02)})
LIMITS_JSON = (
    b'"triage":{"blank":0.02,"count":7,"fragments":8,"largest":0.5,"margin":0.05,'
    b'"ranges":{"border":[0.0,0.25],"colour":[0.0,0.02]},"saturated":0.25}}'
)


def test_triage_is_written_only_where_it_is_known() -> None:
    """Left out where nothing is known; canonical like all other fields where there is something; read as written."""
    assert b"triage" not in to_json(make_contract())
    text = to_json(make_contract(triage=TRIAGE))
    assert text.endswith(LIMITS_JSON)
    assert from_json(text).triage == TRIAGE


GOOD = json.loads(b"{" + LIMITS_JSON)["triage"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.update(triag=GOOD), "unknown contract field 'triag'; did you mean 'triage'?"),
        (lambda f: f.update(triage=None), "'triage' is not an object"),
        (
            lambda f: f.update(triage={**GOOD, "blanc": 0}),
            "unknown contract field 'triage.blanc'; did you mean 'blank'?",
        ),
        (lambda f: f.update(triage={k: v for k, v in GOOD.items() if k != "margin"}), "'triage.margin' is missing"),
        (lambda f: f.update(triage={**GOOD, "count": -1}), "'triage.count' is -1"),
        (lambda f: f.update(triage={**GOOD, "fragments": 0}), "'triage.fragments' is 0"),
        (lambda f: f.update(triage={**GOOD, "largest": 1.5}), "'triage.largest' is 1.5, not from 0 to 1"),
        (lambda f: f.update(triage={**GOOD, "blank": "0"}), "'triage.blank' is '0', not a finite number"),
        (lambda f: f.update(triage={**GOOD, "ranges": []}), "'triage.ranges' is not an object"),
        (lambda f: f.update(triage={**GOOD, "ranges": {"bordr": [0, 1]}}), "did you mean 'border'?"),
        (lambda f: f.update(triage={**GOOD, "ranges": {"zzz": [0, 1]}}), "the fields here are side, aspect"),
        (lambda f: f.update(triage={**GOOD, "ranges": {"border": [0]}}), "'triage.ranges.border' is not two numbers"),
        (lambda f: f.update(triage={**GOOD, "ranges": {"border": 1}}), "'triage.ranges.border' is not a list"),
        (lambda f: f.update(triage={**GOOD, "ranges": {"border": [1.0, 0.0]}}), "is [1.0, 0.0], not [low, high]"),
        (lambda f: f.update(golden={"bytes": 3, "sha256": "a" * 64}), "golden vectors are not those"),
        (lambda f: f.update(golden={"bytes": 0, "sha256": "a" * 64}), "'golden.bytes' is 0"),
        (lambda f: f.update(golden={"bytes": 3, "sha": "a" * 64}), "unknown contract field 'golden.sha'"),
    ],
)
def test_each_wrong_triage_field_is_named(tmp_path: Path, change: Any, words: str) -> None:
    """The optional fields are read as strictly as the others."""
    path = tmp_path / "forged.tflite"
    path.write_bytes(edited(change))
    assert words in refusal(path)


# As JSON and TAIL: the digest and the CRC-32s by sha256sum and gzip.
GOLDEN = b'{"drawn":"vectors"}'
GOLDEN_JSON = JSON.replace(
    b'"1f5d30e5f5a7a23941e4fd81514fc9ee8c0365a53b5b64c733c54870557db750"',
    b'"47a675bf0e7df5edda8ec795da63d974b93ce4d6732bbdfa2830ad8ff62d614d"',
).replace(
    b'"input":{',
    b'"golden":{"bytes":19,"sha256":"a90b692b1d64483c7f675f35a5e6e1c068a971eedbb0176df393e00993429889"},"input":{',
)
GOLDEN_TAIL = (
    bytes.fromhex("504b0304 1400 0000 0000 0000 2100 030a27c9 13000000 13000000 0b00 0000")
    + b"golden.json"
    + GOLDEN
    + bytes.fromhex("504b0304 1400 0000 0000 0000 2100 5f308e6b 58030000 58030000 0d00 0000")
    + b"contract.json"
    + GOLDEN_JSON
    + bytes.fromhex("504b0102 1400 1400 0000 0000 0000 2100 030a27c9 13000000 13000000 0b00")
    + bytes(16)
    + b"golden.json"
    + bytes.fromhex("504b0102 1400 1400 0000 0000 0000 2100 5f308e6b 58030000 58030000 0d00")
    + bytes(12)
    + bytes.fromhex("3c000000")
    + b"contract.json"
    + bytes.fromhex("504b0506 0000 0000 0200 0200 74000000 bf030000 0000")
)


def test_golden_vectors_stand_before_the_contract(tmp_path: Path) -> None:
    """Byte for byte as specified; the contract is read as without them, and they are given back as they were."""
    data = stamp_contract(FLATBUFFER, make_contract(), GOLDEN)
    assert data == FLATBUFFER + GOLDEN_TAIL
    assert split_tail(data) == (FLATBUFFER, GOLDEN_JSON)
    path = tmp_path / "golden.tflite"
    path.write_bytes(data)
    assert read_contract(path, verify=True).golden == GoldenFacts(19, hashlib.sha256(GOLDEN).hexdigest())
    assert read_golden(path) == GOLDEN
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["golden.json", "contract.json"]
        assert archive.read("golden.json") == GOLDEN


def test_the_longest_golden_vectors_are_read(tmp_path: Path, stamped: Path) -> None:
    """65536 bytes of them with a contract of nearly as many; one more is not written; an old file has none."""
    quality = {"n": 1, "split": "x", **{f"k{i}": "v" * 900 for i in range(69)}}
    path = tmp_path / "long.tflite"
    path.write_bytes(stamp_contract(FLATBUFFER, make_contract(quality=quality), bytes(65536)))
    assert read_golden(path) == bytes(65536)
    with pytest.raises(ContractError, match=r"'golden\.bytes' is 65537"):
        stamp_contract(FLATBUFFER, make_contract(), bytes(65537))
    assert read_golden(stamped) is None


@pytest.mark.parametrize("harm", ["vectors", "cut", "other", "none"])
def test_harmed_golden_vectors_are_refused(tmp_path: Path, harm: str) -> None:
    """A changed byte, a missing start, others under the same contract, none where the contract names some."""
    harmed = {
        "vectors": FLATBUFFER + GOLDEN_TAIL.replace(b"drawn", b"drown", 1),
        "cut": FLATBUFFER + GOLDEN_TAIL[70:],
        "other": FLATBUFFER + build_tail(GOLDEN_JSON, GOLDEN.replace(b"drawn", b"drown")),
        "none": FLATBUFFER + build_tail(GOLDEN_JSON),
    }[harm]
    path = tmp_path / "harmed.tflite"
    path.write_bytes(harmed)
    assert ("damaged" if harm in ("vectors", "cut") else "golden vectors are not those") in refusal(path)


# Format 2, written by hand from the specification: what is new in it.
INPUT_2 = (
    '"input":{"channels":["T1"],"colour":"grey","dtype":"float32",'
    '"intensity":{"images":"bit-depth","series":{"percentiles":[1.0,99.0]}},'
    '"offset":0.0,"resize":"stretch-area","scale":0.00392156862745098,"scale_from":"masks","shape":[1,4,6,1]}'
)
ACQUISITION_2 = '"acquisition":{"contrast":"yes","min_slices":3,"modality":"MR","weighting":null}'


def make_contract_2(**changes: Any) -> Contract:
    contract = make_contract(
        format="edge-seg/2",
        input=InputSpec(
            (1, 4, 6, 1), "float32", "grey", "stretch-area", 1 / 255, 0,
            Intensity("bit-depth", {"percentiles": (1, 99)}), "masks", ("T1",),
        ),
        acquisition=Acquisition("MR", None, "yes", 3),
    )  # fmt: skip
    return dataclasses.replace(contract, **changes)


def edit_2(change: Any) -> bytes:
    fields = json.loads(to_json(make_contract_2()))
    change(fields)
    rest = {k: v for k, v in fields.items() if k != "digest"}
    return dump({**rest, "digest": hashlib.sha256(dump(rest)).hexdigest()})


def test_format_2_is_written_as_specified_and_read_again() -> None:
    """Its input and acquisition are the hand-written text; reading gives the same contract and the same bytes."""
    text = to_json(make_contract_2())
    assert INPUT_2.encode() in text
    assert text.startswith(b"{" + ACQUISITION_2.encode() + b",")
    assert b'"format":"edge-seg/2"' in text
    again = from_json(text)
    assert again.input.intensity.series == {"percentiles": (1, 99)}
    assert to_json(again) == text
    channels = dataclasses.replace(
        make_contract_2().input, shape=(1, 4, 6, 3), colour="rgb", scale=(1, 2, 3), offset=(0, 0.5, 1), channels=None
    )
    text = to_json(make_contract_2(input=channels))
    assert b'"offset":[0.0,0.5,1.0]' in text and b'"scale":[1.0,2.0,3.0]' in text
    assert from_json(text).input.scale == (1, 2, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("acquisition"), "contract field 'acquisition' is missing"),
        (lambda fields: fields["input"].pop("scale_from"), "'input.scale_from' is missing"),
        (put("input.scale_from", None), "'input.scale_from'"),
        (put("input.scale_from", "guessed"), "not one of graph, told, masks, assumed"),
        (put("input.intensity", "bit-depth"), "'input.intensity' is not an object"),
        (put("input.intensity.images", "zscore"), "did you mean 'z-score'?"),
        (put("input.intensity.images", {"percentiles": [99, 1]}), "ascending order"),
        (put("input.intensity.images", {"percentiles": [1, 2, 3]}), "is not {percentiles"),
        (put("input.intensity.series", {"window": [40, 0]}), "width is above 0"),
        (put("input.intensity.series", {"window": ["a", 1]}), "not a finite number"),
        (put("input.intensity.series", {"windows": [40, 1]}), "is not {percentiles"),
        (put("input.scale", [1.0]), "has 1 numbers"),
        (put("input.scale", [1.0, 0.0, 1.0]), "has 3 numbers"),
        (put("input.channels", ["T1", "T2"]), "'input.channels' is not null or 1 name"),
        (put("acquisition.contrast", "maybe"), "not one of yes, no"),
        (put("acquisition.min_slices", 0), "'acquisition.min_slices' is 0"),
        (put("acquisition.modality", None), "'acquisition.modality' is not a printable text"),
        (put("acquisition.field", 3), "unknown contract field 'acquisition.field'"),
        (put("quality.series", {"count": 2}), "'quality.series.false_ml_max' is missing"),
        (put("quality.series", {"count": 2, "false_ml_max": -1}), "is below 0"),
    ],
)
def test_each_wrong_field_of_format_2_is_named(change: Any, words: str) -> None:
    """As in format 1: one line that names the field."""
    with pytest.raises(ContractError) as caught:
        from_json(edit_2(change))
    assert words in str(caught.value)


def test_format_1_has_no_new_field() -> None:
    """A new field in a contract of format 1 is unknown; what format 1 means is bit-depth and slice-min-max."""
    with pytest.raises(ContractError, match="unknown contract field 'acquisition'"):
        from_json(split_tail(edited(put("acquisition", None)))[1] or b"")
    contract = from_json(JSON)
    assert (contract.input.intensity, contract.input.scale_from) == (Intensity("bit-depth", "slice-min-max"), None)
