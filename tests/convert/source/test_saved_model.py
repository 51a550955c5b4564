"""A SavedModel is searched before it is loaded: what does more than compute is named and touches nothing."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_models import FORBIDDEN, PLACES, edit, find_function, find_nodes, write_good

pytest.importorskip("tensorflow")

from convert.source.load.known_ops import COMPUTING, SAVER
from convert.source.load.saved_model import load_graph
from edge_runtime.errors import ModelError, UnsafeModelError

SECRET = b"\x7fSECRET-of-the-hospital-0123456789abcdef"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(tmp_path_factory.mktemp("good") / "net")


@pytest.fixture
def net(good: Path, tmp_path: Path) -> Path:
    """A copy of the good model to attack, a secret file beside it, and an empty work folder."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "work").mkdir()
    return Path(shutil.copytree(good, tmp_path / "net"))


def list_state(folder: Path) -> dict[str, str]:
    """Return every file below a folder with its hash and time, and every folder."""
    return {
        str(path.relative_to(folder)): (
            f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}" if path.is_file() else "folder"
        )
        for path in sorted(folder.rglob("*"))
    }


def refuse(net: Path, words: str) -> None:
    """Check that a model is refused with these words, and that nothing was changed or left anywhere."""
    before = list_state(net.parent)
    with pytest.raises(UnsafeModelError, match=words) as caught:
        load_graph(net, net.parent / "work", None)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(net))
    assert list_state(net.parent) == before


def add(nodes: Any, op: str, **texts: str) -> None:
    """Add an operation that needs nothing, at the end: an initializer's functions run all that has side effects."""
    node = nodes.add(name="crafted", op=op)
    for key, text in texts.items():
        node.attr[key].s = text.encode()


@pytest.mark.parametrize("op", FORBIDDEN)
def test_what_does_more_than_compute_is_refused(net: Path, op: str) -> None:
    """Each forbidden operation is refused, with its name, its node and its function."""
    edit(net, lambda saved: add(find_nodes(saved.meta_graphs[0], "inner"), op))
    refuse(net, rf"node 'crafted' in its function '__inference_halve_\d+' is a {op},")


@pytest.mark.parametrize("place", PLACES)
def test_wherever_it_stands(net: Path, place: str) -> None:
    """In the graph, a function, a loop, a branch, a gradient, a signature, even the saver's own function."""
    edit(net, lambda saved: add(find_nodes(saved.meta_graphs[0], place), "WriteFile"))
    refuse(net, r"node 'crafted' in its (main graph|function '\w+') is a WriteFile")


@pytest.mark.parametrize("op", sorted(SAVER))
@pytest.mark.parametrize("place", [place for place in PLACES if place != "saver"])
def test_the_savers_operations_stand_in_the_saver_alone(net: Path, place: str, op: str) -> None:
    """RestoreV2 and the others, which every SavedModel has, are refused outside its saver."""
    edit(net, lambda saved: add(find_nodes(saved.meta_graphs[0], place), op))
    refuse(net, f"is a {op}")


@pytest.mark.parametrize("place", ["main", "function", "gradient", "signature", "loop"])
@pytest.mark.parametrize("saver", ["traced_save", "traced_restore"])
def test_nothing_calls_the_saver(net: Path, place: str, saver: str) -> None:
    """A call of the saver's functions from anywhere else is refused: it could be given any path."""

    def call(saved: Any) -> None:
        meta = saved.meta_graphs[0]
        name = find_function(meta, saver).signature.name
        node = find_nodes(meta, place).add(name="crafted", op="StatefulPartitionedCall")
        node.attr["f"].func.name = name

    edit(net, call)
    refuse(net, rf"'crafted' in its (main graph|function '\w+') calls '__inference__{saver}_")


def test_a_function_under_the_savers_name_is_not_loaded(net: Path) -> None:
    """A function may call itself the saver's, but then nothing calls it, and it is not in the copy that is loaded."""

    def rename(saved: Any) -> None:
        function = saved.meta_graphs[0].graph_def.library.function.add()
        function.signature.name = "__inference__traced_save_evil"
        add(function.node_def, "MergeV2Checkpoints")

    edit(net, rename)
    load_graph(net, net.parent / "work", None)
    assert b"MergeV2Checkpoints" not in (net.parent / "work/source.saved_model/saved_model.pb").read_bytes()


def with_gradient(saved: Any) -> None:
    meta = saved.meta_graphs[0]
    name = find_function(meta, "traced_restore").signature.name
    meta.graph_def.library.gradient.add(
        function_name=find_function(meta, "__inference_halve").signature.name, gradient_func=name
    )


def with_concrete(saved: Any) -> None:
    meta = saved.meta_graphs[0]
    name = find_function(meta, "traced_restore").signature.name
    meta.object_graph_def.concrete_functions[name].bound_inputs.extend([])


def with_nested_call(saved: Any) -> None:
    meta = saved.meta_graphs[0]
    node = find_nodes(meta, "function").add(name="crafted", op="If")
    node.attr["then_branch"].func.name = find_function(meta, "halve").signature.name
    node.attr["then_branch"].func.attr["g"].func.name = find_function(meta, "traced_save").signature.name


def with_listed_call(saved: Any) -> None:
    meta = saved.meta_graphs[0]
    node = find_nodes(meta, "function").add(name="crafted", op="Case")
    node.attr["branches"].list.func.add(name=find_function(meta, "traced_save").signature.name)


def with_asset(saved: Any) -> None:
    saved.meta_graphs[0].asset_file_def.add(filename="../../secret").tensor_info.name = "x:0"


def with_asset_object(saved: Any) -> None:
    saved.meta_graphs[0].object_graph_def.nodes[0].asset.asset_file_def_index = 0


def with_resource(saved: Any) -> None:
    saved.meta_graphs[0].object_graph_def.nodes.add().resource.device = "/job:evil"


def with_registered_saver(saved: Any) -> None:
    saved.meta_graphs[0].object_graph_def.nodes[0].registered_saver = "tf.absl"


def with_saveable(saved: Any) -> None:
    saved.meta_graphs[0].object_graph_def.nodes[0].saveable_objects["x"].restore_function = 1


def without_objects(saved: Any) -> None:
    saved.meta_graphs[0].ClearField("object_graph_def")


def with_second_graph(saved: Any) -> None:
    saved.meta_graphs.add().CopyFrom(saved.meta_graphs[0])


def with_hidden_graph(saved: Any) -> None:
    add(saved.meta_graphs.add().graph_def.node, "WriteFile")


def with_function_as_operation(saved: Any) -> None:
    meta = saved.meta_graphs[0]
    function = meta.graph_def.library.function.add()
    function.signature.name = "ReadFile"
    add(find_nodes(meta, "function"), "ReadFile")


CRAFTED = {
    with_gradient: "calls '__inference__traced_restore",
    with_concrete: "calls '__inference__traced_restore",
    with_nested_call: "calls '__inference__traced_save",
    with_listed_call: "calls '__inference__traced_save",
    with_asset: "reads the file",
    with_asset_object: "'asset'",
    with_resource: "'resource'",
    with_registered_saver: "restore",
    with_saveable: "restore",
    without_objects: "TensorFlow 1",
    with_second_graph: "TensorFlow 1",
    with_hidden_graph: "WriteFile",
    with_function_as_operation: "ReadFile",
}


@pytest.mark.parametrize("change", CRAFTED, ids=lambda change: change.__name__)
def test_other_roads_to_files_are_refused(net: Path, change: Any) -> None:
    """Assets, tables, savers of an object, gradients, graphs that no loader shows: all are looked at."""
    refuse(edit(net, change), CRAFTED[change])


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"]
)
def test_a_link_in_the_folder_is_refused(net: Path, name: str) -> None:
    """A link would make the bytes of another file the model's weights."""
    (net / name).unlink()
    (net / name).symlink_to(net.parent / "secret")
    before = list_state(net.parent)
    with pytest.raises(ModelError, match=r"(link|no saved_model.pb)"):
        load_graph(net, net.parent / "work", None)
    assert {k: v for k, v in list_state(net.parent).items() if not k.startswith("work")} == {
        k: v for k, v in before.items() if not k.startswith("work")
    }


def test_what_is_loaded_is_what_was_checked(net: Path) -> None:
    """The copy holds no saver, no asset, no file beside; and the model answers as TensorFlow's own loader does."""
    import tensorflow as tf

    (net / "assets/words.txt").parent.mkdir(exist_ok=True)
    (net / "assets/words.txt").write_bytes(SECRET)
    x = tf.constant(np.random.default_rng(1).random((1, 16, 16, 1), np.float32))
    found = load_graph(net, net.parent / "work", None).call(x)[0]
    copy = net.parent / "work/source.saved_model"
    assert sorted(path.name for path in copy.rglob("*") if path.is_file()) == [
        "saved_model.pb", "variables.data-00000-of-00001", "variables.index"
    ]  # fmt: skip
    assert not any(op.encode() in (copy / "saved_model.pb").read_bytes() for op in ("RestoreV2", "SaveV2"))
    expected = tf.saved_model.load(str(net)).signatures["serving_default"](x)["mask"]
    assert np.array_equal(found, expected)


def test_known_operations_are_operations() -> None:
    """The list names operations that TensorFlow has, none of them a forbidden one."""
    import tensorflow as tf

    known = {name for name in dir(tf.raw_ops) if name[0].isupper()}
    odd = {"Placeholder", "PlaceholderWithDefault"}  # registered, but not among the raw operations
    assert COMPUTING - known <= odd | {"Const", "Enter", "Exit", "NextIteration", "Merge", "Switch", "LoopCond"}
    assert not COMPUTING & set(FORBIDDEN) and not COMPUTING & SAVER


def write_signatures(folder: Path, *names: str) -> Path:
    import tensorflow as tf

    module = tf.Module()
    floats = tf.function(lambda image: {"mask": image / 2}, [tf.TensorSpec((1, 8, 8, 1), tf.float32, "image")])
    module.floats = floats
    tf.saved_model.save(module, str(folder), dict.fromkeys(names, floats))
    return folder


def test_a_signature_is_chosen(tmp_path: Path) -> None:
    """The default, the only one, or the one named; else an error that lists them."""
    path = write_signatures(tmp_path / "m", "one", "two")
    for index, (name, words) in enumerate({None: "one, two.*--signature", "three": "no signature 'three'"}.items()):
        with pytest.raises(ModelError, match=words):
            load_graph(path, tmp_path / f"w{index}", None, name)
    assert load_graph(path, tmp_path / "w2", None, "two").shape == (8, 8, 1)
    assert load_graph(write_signatures(tmp_path / "n", "one"), tmp_path / "w3", None).shape == (8, 8, 1)


def test_text_is_named_as_text(tmp_path: Path) -> None:
    """A signature that takes bytes is refused as such; another of the same model can be named."""
    import tensorflow as tf

    module = tf.Module()
    spec = tf.TensorSpec((1,), tf.string, "data")
    module.texts = tf.function(lambda data: {"mask": tf.zeros((1, 8, 8, 1))}, [spec])
    module.floats = tf.function(lambda image: {"mask": image / 2}, [tf.TensorSpec((1, 8, 8, 1), tf.float32, "image")])
    tf.saved_model.save(module, str(tmp_path / "m"), {"serving_default": module.texts, "pixels": module.floats})
    with pytest.raises(ModelError, match=r"'data' is text or bytes.*float pixels.*--signature: .*pixels"):
        load_graph(tmp_path / "m", tmp_path / "w", None)
    assert load_graph(tmp_path / "m", tmp_path / "w2", None, "pixels").shape == (8, 8, 1)


@pytest.mark.parametrize(("op", "texts"), [("WriteFile", {}), ("ImmutableConst", {"memory_region_name": "secret"})])
def test_the_command_ends_with_5_and_touches_nothing(
    net: Path, op: str, texts: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """By the whole command, with its child processes: exit 5, one line, no new or changed file, the secret nowhere."""
    from convert.__main__ import main

    texts = {key: str(net.parent / value) for key, value in texts.items()}
    edit(net, lambda saved: add(find_nodes(saved.meta_graphs[0], "function"), op, **texts))
    before = list_state(net.parent)
    assert main([str(net), "-o", str(net.parent / "net.tflite"), "--recipe", "fp32"]) == 5
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1].count(op)) == ("", 1)
    assert list_state(net.parent) == before
