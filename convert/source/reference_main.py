"""What does tf-keras answer for a file of Keras 2? A child process of its own, which never imports Keras 3.

It reads what the process that loaded the model left in the folder, and writes the same outputs into `reference/` there
and `reference_result.json`. It is started only after the file was searched for what could run code.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from convert.source.load.archive import find_kind, first_line, list_objects, modernize_config, refuse_unsafe
from convert.source.load.describe_keras import flatten, wrap_input
from convert.source.load.keras2.config import write_modern
from convert.source.load.keras_model import find_line, read_own_copy, replace_float_types
from convert.source.trace.mask_and_classes import pick_outputs
from edge_runtime.errors import EdgeSegError

from .answers import write_drawn_outputs, write_image_outputs
from .loaded_model import LoadedModel
from .process import ConversionRequest, SourceFacts, from_data
from .reference import ANSWER, ANSWERS, ReferenceAnswer, ReferenceQuestion, read_question


def main(folder: str, isolation: str = "") -> int:
    """Answer, or write why not; return 0. isolation: that of the process that loaded the model is in the report."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # a trusted module's tf.keras is then tf-keras
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # as in process_main
    work = Path(folder)
    request = from_data(ConversionRequest, json.loads((work / "request.json").read_text()))
    facts = from_data(SourceFacts, json.loads((work / "result.json").read_text()))
    (work / ANSWER).write_text(json.dumps(asdict(answer(work, request, facts, read_question(work)))))
    return 0


def answer(work: Path, request: ConversionRequest, facts: SourceFacts, question: ReferenceQuestion) -> ReferenceAnswer:
    """Write the outputs of the model in tf-keras; return who answered, or why it could not."""
    if find_spec("tf_keras") is None:
        return ReferenceAnswer("tf-keras", "tf-keras is not installed (pip install '.[convert]')")
    try:
        import tf_keras
    except Exception as error:  # another TensorFlow than it was built for raises many kinds
        return ReferenceAnswer("tf-keras", f"tf-keras cannot be imported ({first_line(error)})")
    name = f"tf-keras {tf_keras.__version__}"
    try:
        already = "keras" in sys.modules
        trusted = import_trusted(request.trust) if request.trust else {}
        if "keras" in sys.modules and not already:
            return ReferenceAnswer(name, f"{request.trust} imports Keras 3, so its classes are none of {name}")
        model = load(Path(request.model), work, request.trust, trusted)
        write_outputs(work / ANSWERS, request, facts, question, model)
    except EdgeSegError as error:
        return ReferenceAnswer(name, f"{name} was not asked ({first_line(error)})")
    except Exception as error:  # whatever its layers raise: it has no such class, or not this argument
        return ReferenceAnswer(name, f"{name} cannot load it ({find_line(error)})")
    return ReferenceAnswer(name)


def import_trusted(module: str) -> dict[str, Any]:
    """Import the module that the user trusts and return its classes and functions by name."""
    found = vars(importlib.import_module(module)).items()
    return {name: thing for name, thing in found if callable(thing) and not name.startswith("__")}


def load(path: Path, work: Path, trust: str, trusted: dict[str, Any]) -> Any:
    """Return the model in float32. Raises: EdgeSegError if it could run code."""
    kind = find_kind(path)
    copy = work / f"checked.{kind}"
    written, config = read_own_copy(path, copy, kind)
    refuse_unsafe(path, list_objects(path, modernize_config(path, config)), trust, trusted)
    import tf_keras

    source = work / f"original.{kind}"
    plain = to_float32(config)
    if plain == written:
        copy.rename(source)
    else:
        write_modern(copy, kind, plain, source)
    with tf_keras.utils.custom_object_scope(trusted):
        return tf_keras.models.load_model(str(source), compile=False, safe_mode=True)


def to_float32(config: Any) -> Any:
    """Return a config of Keras 2 in which every other floating type or policy is float32."""
    if isinstance(config, dict):
        if config.get("class_name") in ("Policy", "PolicyV1"):
            return "float32"
        plain: Any = replace_float_types({key: to_float32(value) for key, value in config.items()})
        return plain
    return [to_float32(inner) for inner in config] if isinstance(config, list) else config


def write_outputs(
    folder: Path, request: ConversionRequest, facts: SourceFacts, question: ReferenceQuestion, model: Any
) -> None:
    """Write a model's outputs for the drawn images and for those to check on."""
    import tensorflow as tf

    structure = getattr(model, "_nested_inputs", None)

    def call(x: Any) -> list[Any]:
        named = flatten(model(wrap_input(structure, x), training=False))
        by_name = dict(named)
        known = set(by_name) == set(question.outputs)
        return [by_name[key] for key in question.outputs] if known else [one for _, one in named]

    loaded = LoadedModel(facts.name, facts.kind, call, model, facts.input_shape[1:], facts.input_dtype)
    shape = facts.output_shape if question.flattened else None
    run = pick_outputs(tf.function(call), question.mask, shape, question.classes, question.append)
    folder.mkdir()
    write_drawn_outputs(folder, loaded, run, facts)
    first = run if question.classes is None else lambda x: run(x)[0]
    write_image_outputs(folder, first, facts, request.images)
