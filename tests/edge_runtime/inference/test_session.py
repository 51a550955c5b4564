"""The main path: load, segment, Result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fakes import FakeEngine, echo, make_contract, make_session

from edge_runtime import Contract, EdgeSegError, Result, Session
from edge_runtime.contract.fields import ClassSpec
from edge_runtime.contract.tail import read_contract, split_tail, stamp_contract
from edge_runtime.errors import ContractError, EngineError, ImageError, ModelError, UsageError
from edge_runtime.models import DEFAULT


@pytest.fixture(scope="module")
def session() -> Session:
    return Session.load(threads=1)


def test_result_is_of_the_images_own_size(session: Session, drawn: npt.NDArray[np.uint8]) -> None:
    """Whatever comes in, mask, probability and labels have its height and width and the promised types."""
    deep = drawn.astype(np.uint16) * 16
    for image in (drawn, drawn[:50, :], deep, np.repeat(drawn[:, :, None], 3, axis=2), drawn[:1, :1], drawn[:1]):
        result = session.segment(image)
        assert isinstance(result, Result)
        for array, dtype in ((result.mask, bool), (result.probability, np.float32), (result.labels, np.uint8)):
            assert array.shape == image.shape[:2]
            assert array.dtype == dtype
        assert 0 <= result.probability.min() <= result.probability.max() <= 1
        assert (result.mask == (result.probability >= np.float32(session.threshold))).all()
        assert result.engine == session.engine.name
        assert set(result.timings) == {"preprocess_ms", "infer_ms", "postprocess_ms"}
        assert all(value >= 0 for value in result.timings.values())


def test_segmenting_twice_gives_the_same(session: Session, drawn: npt.NDArray[np.uint8]) -> None:
    """A session keeps nothing from image to image, and a result is not overwritten by the next."""
    first = session.segment(drawn)
    kept = first.probability.copy()
    session.segment(drawn[::-1])
    assert (first.probability == kept).all()
    assert (session.segment(drawn).probability == kept).all()


def test_threads_do_not_change_the_mask(session: Session, drawn: npt.NDArray[np.uint8]) -> None:
    """One thread or two: the probabilities agree."""
    other = Session.load(threads=2)
    np.testing.assert_allclose(other.segment(drawn).probability, session.segment(drawn).probability, atol=1e-4)


def test_the_threshold_can_be_replaced(drawn: npt.NDArray[np.uint8]) -> None:
    """Another threshold changes the mask, and the contract's is the default."""
    assert make_session().threshold == make_contract().threshold.value
    low, high = (make_session(threshold=value).segment(drawn).mask for value in (0.1, 0.9))
    assert low.sum() > high.sum()
    assert (low | high == low).all()


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, 2.0, float("nan"), float("inf")])
def test_a_threshold_out_of_range_is_a_usage_error(threshold: float) -> None:
    """Only values between zero and one, exclusive, are thresholds."""
    with pytest.raises(UsageError):
        Session.load(threshold=threshold)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8), bool),
        np.zeros((8, 8), np.int16),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((0, 8), np.uint8),
        np.zeros(8, np.uint8),
    ],
)
def test_an_array_that_is_no_image_is_refused(image: npt.NDArray[np.generic]) -> None:
    """Floats, four channels, no pixels: an error in one line instead of a mask of something else."""
    with pytest.raises(ImageError, match="uint8 or uint16"):
        make_session().segment(image)


def test_softmax_gives_labels(drawn: npt.NDArray[np.uint8]) -> None:
    """Three labels from a softmax: the mask is all that is not background."""

    def answer(tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        core, edema = (tensor > 0.6).astype(np.float32), ((tensor > 0.3) & (tensor <= 0.6)).astype(np.float32)
        return np.concatenate([1 - core - edema, edema, core], axis=3)

    result = make_session(answer, labels=3).segment(drawn)
    assert set(np.unique(result.labels)) <= {0, 1, 2}
    assert (result.mask == (result.labels > 0)).all()
    assert result.labels.max() == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0])
def test_what_is_no_probability_raises(drawn: npt.NDArray[np.uint8], value: float) -> None:
    """A model that gives NaN, infinity or logits is an error, not a result."""
    with pytest.raises(ModelError):
        make_session(lambda tensor: np.where(tensor == tensor.max(), value, tensor)).segment(drawn)


def test_the_package_gives_the_promised_names() -> None:
    """`from edge_runtime import Session, Contract, EdgeSegError` works, and errors are of one tree."""
    assert isinstance(read_contract(DEFAULT), Contract)
    assert issubclass(ModelError, EdgeSegError)
    assert echo(np.ones(1)) == 1


def test_a_contract_that_disagrees_with_its_graph_is_refused(tmp_path: Path) -> None:
    """Shapes and types that the contract promises are compared with the graph's before anything runs."""
    flatbuffer, _ = split_tail(DEFAULT.read_bytes())
    path = tmp_path / "m.tflite"
    path.write_bytes(stamp_contract(flatbuffer, make_contract(size=48)))
    with pytest.raises(ContractError, match="promises input shape"):
        Session.load(path)


def test_a_stamped_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    """A contract does not make a model: what the interpreter refuses is one line."""
    path = tmp_path / "m.tflite"
    path.write_bytes(stamp_contract(b"\x1c\0\0\0TFL3" + bytes(2000), make_contract()))
    with pytest.raises((ModelError, EngineError)) as caught:
        Session.load(path)
    assert "\n" not in str(caught.value)


def test_a_model_that_classifies_names_the_class(drawn: npt.NDArray[np.uint8]) -> None:
    """The class of the second output is in the Result; without one, it is None."""
    contract = make_contract(classes=ClassSpec((1, 3), "softmax", ("none", "glioma", "meningioma")))
    result = Session(contract, FakeEngine(echo, 32, 1, (0.2, 0.7, 0.1))).segment(drawn)
    assert (result.class_name, result.class_probability) == ("glioma", pytest.approx(0.7))
    assert (result.mask == make_session().segment(drawn).mask).all()
    assert make_session().segment(drawn).class_name is None


def test_overlapping_labels_of_a_sigmoid(drawn: npt.NDArray[np.uint8]) -> None:
    """Two sigmoids, a whole and its core: the mask is both, with the core's label where both are."""
    contract = make_contract(labels=2, activation="sigmoid")
    engine = FakeEngine(lambda x: np.concatenate([(x > 0.2) * 0.9, (x > 0.5) * 0.8], axis=3), 32, 2)
    result = Session(contract, engine).segment(drawn)
    assert set(np.unique(result.labels)) == {0, 1, 2}
    assert (result.mask == (result.labels > 0)).all()


def test_a_volume_comes_back_with_its_depth(rng: np.random.Generator) -> None:
    """(D, H, W) in, mask, labels and probability (D, H, W) out, each slice as an image would be."""
    session = Session(make_contract(depth=3), FakeEngine(echo, 32, 1))
    volume = rng.integers(0, 256, (3, 40, 50), np.uint8)
    result = session.segment(volume)
    assert result.mask.shape == result.labels.shape == result.probability.shape == (3, 40, 50)
    for k in range(3):
        np.testing.assert_allclose(result.probability[k], make_session().segment(volume[k]).probability, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((2, 40, 50), "2 slices, this model takes 3"), ((40, 50), "(3, H, W)"), ((3, 40, 50, 2), "(3, H, W)")],
)
def test_what_is_no_such_volume_is_refused(shape: tuple[int, ...], words: str) -> None:
    """A volume of another depth, an image, and channels that are none: one line each, with what is wanted."""
    session = Session(make_contract(depth=3), FakeEngine(echo, 32, 1))
    with pytest.raises(ImageError) as caught:
        session.segment(np.zeros(shape, np.uint8))
    assert words in str(caught.value)


def test_classes_that_the_graph_does_not_give_are_refused(tmp_path: Path) -> None:
    """A contract with classes on a graph with one output is found before anything runs."""
    data, text = split_tail(DEFAULT.read_bytes())
    assert text is not None
    contract = replace(read_contract(DEFAULT), classes=ClassSpec((1, 2), "softmax", ("a", "b")))
    path = tmp_path / "m.tflite"
    path.write_bytes(stamp_contract(data, contract))
    with pytest.raises(ContractError, match="classes' shape"):
        Session.load(path)
