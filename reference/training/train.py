"""Trains a net by a recipe, from data folders to a float32 `.keras` file. One file, top to bottom.

A run has a folder beside the model (`MODEL.run/`): recipe.json, state.npz to resume from, log.csv, curve.png. After a
kill at any moment the same command resumes after the last finished epoch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf

from edge_runtime.errors import UsageError
from edge_runtime.system.files import open_atomic, write_file
from reference.data.folders import SPLITS, Slice, read_arrays, read_folder
from reference.data.training_record import write_record
from reference.evaluation.slice_scores import Scores
from reference.nets.build import build_net
from reference.nets.pretrained import load_weights
from reference.paper import follow_plateau
from reference.recipe import Recipe

from .batches import draw_batches
from .held_out import check_start, write_split
from .log import print_status, read_log, show_progress, write_log
from .loss import add_heads, deep_loss

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow uses oneDNN by default on some processors only; on AVX2 a full-size step is 1.5 times as fast with it.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def train(
    recipe: Recipe, folders: Sequence[Path], extra: Sequence[Path], model_path: Path, until: int | None = None
) -> Path:
    """Train and write `model_path` (.keras, float32) with the weights of the best validation score; return the path.

    folders: split by patient or slice. extra: folders for training only. until: stop after this epoch; the same call
    without it resumes from there.
    Raises: UsageError if a folder is unusable or the run's folder belongs to another recipe.
    """
    keras.utils.set_random_seed(recipe.seed)
    cv2.setNumThreads(1)  # the augmenting thread must not compete with the training threads for cores
    run = model_path.with_suffix(".run")
    check_output(model_path, run)
    training, validation, test = split_folders(recipe, folders)
    training += [item for folder in extra for item in read_folder(folder)]
    check_split(training, validation, recipe)
    if recipe.weights not in ("none", "imagenet"):
        check_start(Path(recipe.weights), validation, test)
    model = build_start(recipe, begun=(run / "state.npz").is_file())
    check_run(run, recipe)
    write_split(run, recipe.split, validation, test)
    write_record(run, training)
    held_out = "other patients" if recipe.split == "patient" else "any patient"
    print_status(
        f"{len(training)} slices to train on, {len(validation)} of {held_out} to validate on, {len(test)} to test"
    )

    trainer = Trainer(model, recipe, steps=recipe.epochs * (len(training) // recipe.batch))
    state = trainer.load(run / "state.npz")
    arrays_size, best = 0, state["best"]
    for epoch in range(state["epoch"], recipe.epochs if until is None else min(until, recipe.epochs)):
        size = recipe.small_size if epoch < recipe.small_epochs else recipe.size
        if recipe.schedule == "plateau":
            past = [row for row in read_log(run, epoch) if int(row["size"]) == size]
            trainer.plateau_rate, stop = follow_plateau([float(row["val_mean_iou"]) for row in past], recipe)
            if stop:
                print_status(f"stopped after epoch {epoch}: {recipe.stop_patience} epochs without improvement")
                break
        if size != arrays_size:
            train_arrays = read_arrays(training, size, recipe.colour)
            valid_arrays = read_arrays(validation, size, recipe.colour)
            arrays_size = size
        if epoch == recipe.small_epochs and recipe.small_epochs:
            best = -1.0  # scores at two sizes are not comparable
        started = time.monotonic()
        loss = trainer.run_epoch(train_arrays, epoch, started)
        scores = trainer.validate(valid_arrays, [item.kind for item in validation])
        row = {"epoch": epoch + 1, "size": size, "rate": trainer.rate(), "loss": loss, **scores}
        row["seconds"] = time.monotonic() - started
        if scores["val_mean_iou"] > best:
            best = scores["val_mean_iou"]
            save_float32(trainer.averaged_weights(), recipe, model_path)
        write_log(run, row)
        trainer.save(run / "state.npz", {"epoch": epoch + 1, "best": best})
        print_status(" ".join(f"{key} {value:.4g}" for key, value in row.items()))
    return model_path


def split_folders(recipe: Recipe, folders: Sequence[Path]) -> tuple[list[Slice], list[Slice], list[Slice]]:
    """Return the folders' slices to train on, to validate on and to test on."""
    slices = [item for folder in folders for item in read_folder(folder)]
    training, validation, test = SPLITS[recipe.split](slices, (recipe.share, recipe.test_share), recipe.seed)
    return training, validation, test


def build_start(recipe: Recipe, begun: bool) -> keras.Model:
    """Return the net with the recipe's start weights, unless the run has begun: its state then has the weights."""
    keras.mixed_precision.set_global_policy(recipe.precision)
    model = build_net(recipe, None)
    if recipe.weights != "none" and not begun:
        loaded = load_weights(recipe.weights, model)
        count = sum(bool(layer.weights) for layer in model.layers)
        print_status(f"{recipe.weights}: weights for {len(loaded)} of {count} layers")
    return model


class Trainer:
    """Holds the net, its optimizer and its averaged weights; runs epochs and validations, saves and loads the state."""

    def __init__(self, model: keras.Model, recipe: Recipe, steps: int) -> None:
        self.model, self.recipe, self.steps = model, recipe, max(1, steps)
        self.net = (
            add_heads(model) if recipe.deep else model
        )  # the net that is trained; only the model is validated and saved
        self.plateau_rate = recipe.rate  # the epoch's rate, with the plateau schedule
        if recipe.weight_decay:
            self.optimizer = keras.optimizers.AdamW(recipe.rate, weight_decay=recipe.weight_decay)
            self.optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        else:
            self.optimizer = keras.optimizers.Adam(recipe.rate)
        self.optimizer.build(self.net.trainable_variables)
        self.averages = [tf.Variable(v.value, trainable=False) for v in model.weights]
        self.steps_done = 0
        # One trace per image size; reduce_retracing would merge them into a slower dynamic shape.
        self.step = tf.function(self.train_step)
        self.predict = tf.function(lambda x: model(x, training=False))

    def rate(self) -> float:
        """Return the learning rate of the current step: the plateau's, or linear warm-up, then half a cosine."""
        if self.recipe.schedule == "plateau":
            return self.plateau_rate
        progress = self.steps_done / self.steps
        if progress < self.recipe.warm_up:
            return self.recipe.rate * (progress / self.recipe.warm_up + 1e-3)
        past = (progress - self.recipe.warm_up) / (1 - self.recipe.warm_up)
        return self.recipe.rate * 0.5 * (1 + float(np.cos(np.pi * min(1.0, past))))

    def train_step(self, images: Any, masks: Any) -> Any:
        """Take one optimizer step on images (N, H, W, C) and masks (N, H, W, 1); return the loss."""
        with tf.GradientTape() as tape:
            outputs = self.net(images, training=True)
            probabilities = outputs if self.recipe.deep else [outputs]
            loss = deep_loss(masks, probabilities, self.recipe.dice, self.recipe.deep)
        gradients = tape.gradient(loss, self.net.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.net.trainable_variables, strict=True))
        steps = tf.cast(self.optimizer.iterations, tf.float32)
        decay = tf.minimum(
            self.recipe.ema, (1 + steps) / (10 + steps)
        )  # smaller at first, so that the random start decays soon
        for average, weight in zip(self.averages, self.model.weights, strict=True):
            average.assign_add((1 - decay) * (tf.cast(weight.value, average.dtype) - average))
        return loss

    def run_epoch(self, arrays: tuple[np.ndarray, np.ndarray], epoch: int, started: float) -> float:
        """Train once over the arrays; return the mean loss."""
        losses = []
        count = len(arrays[0]) // self.recipe.batch
        for images, masks in draw_batches(arrays, self.recipe, epoch):
            self.optimizer.learning_rate.assign(self.rate())
            losses.append(self.step(tf.constant(images), tf.constant(masks)))
            self.steps_done += 1
            show_progress(epoch, len(losses), count, started)
        return float(np.mean([float(loss) for loss in losses]))

    def validate(self, arrays: tuple[np.ndarray, np.ndarray], kinds: Sequence[str]) -> dict[str, float]:
        """Score the averaged weights on images (N, H, W, C) and masks (N, H, W), uint8."""
        current = [weight.numpy() for weight in self.model.weights]
        self.model.set_weights(self.averaged_weights())
        scores = score_arrays(self.predict, arrays, kinds, self.recipe.batch)
        self.model.set_weights(current)
        return {f"val_{key}": value for key, value in scores.items()}

    def averaged_weights(self) -> list[np.ndarray]:
        """Return the averaged weights in the order of `model.get_weights()`."""
        return [average.numpy() for average in self.averages]

    def variables(self) -> list[Any]:
        """Return the variables of the state file, in its order."""
        return [*self.net.weights, *self.optimizer.variables, *self.averages]

    def save(self, path: Path, facts: dict[str, float]) -> None:
        """Write the state file, whole or not at all."""
        arrays: dict[str, Any] = {f"v{i}": np.asarray(v.numpy()) for i, v in enumerate(self.variables())}
        arrays["facts"] = json.dumps({**facts, "done": self.steps_done})
        with open_atomic(path) as file:
            np.savez(file, **arrays)

    def load(self, path: Path) -> dict[str, Any]:
        """Restore a state file if there is one; return its facts, or those of a new run."""
        if not path.is_file():
            return {"epoch": 0, "best": -1.0}
        with np.load(path) as state:
            facts: dict[str, Any] = json.loads(str(state["facts"]))
            for i, variable in enumerate(self.variables()):
                variable.assign(state[f"v{i}"])
        self.steps_done = facts["done"]
        print_status(f"resumed after epoch {facts['epoch']}")
        return facts


def score_arrays(
    predict: Any, arrays: tuple[np.ndarray, np.ndarray], kinds: Sequence[str], batch: int
) -> dict[str, float]:
    """Return the scores at 0.5 of a net on images (N, H, W, C) and masks (N, H, W), uint8, at their size."""
    scores, (images, masks) = Scores(), arrays
    for start in range(0, len(images), batch):
        stop = start + batch
        probability = predict(tf.constant(images[start:stop], tf.float32) / 255).numpy()[..., 0]
        for one, mask, kind in zip(probability, masks[start:stop], kinds[start:stop], strict=False):
            scores.add(one > 0.5, mask > 0, kind)
    return scores.summary()


def save_float32(weights: list[np.ndarray], recipe: Recipe, path: Path) -> None:
    """Write a float32 `.keras` file of fixed size: a model trained in bfloat16 cannot be converted."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    model = build_net(recipe, recipe.size)
    model.set_weights(weights)
    keras.mixed_precision.set_global_policy(policy)
    temporary = path.with_name(f".{path.stem}.tmp.keras")
    model.save(temporary)
    temporary.replace(path)


def check_output(model_path: Path, run: Path) -> None:
    """Refuse a name that Keras cannot save to, or an existing model of another run."""
    if model_path.suffix != ".keras":
        raise UsageError(str(model_path), "its name does not end in .keras", "rename it")
    if model_path.exists() and not run.is_dir():
        raise UsageError(str(model_path), "it exists already", "choose another -o")


def check_split(training: Sequence[Slice], validation: Sequence[Slice], recipe: Recipe) -> None:
    """Refuse data with less than one batch to train on, or no tumour to validate on."""
    if len(training) < recipe.batch:
        why = f"{len(training)} slices are fewer than one batch of {recipe.batch}"
        raise UsageError("training data", why, "add slices or lower --batch")
    if all(item.mask is None for item in validation):
        why = f"none of the {len(validation)} held-out slices has a tumour"
        raise UsageError("validation data", why, "add patients: a fifth of each class is held out")


def check_run(run: Path, recipe: Recipe) -> None:
    """Write recipe.json into the run's folder; refuse a folder that was begun with another recipe."""
    path = run / "recipe.json"
    if path.is_file():
        begun = {
            **asdict(Recipe()),
            **json.loads(path.read_text()),
        }  # a field that is newer than the file had its default
        changed = [key for key, value in asdict(recipe).items() if begun[key] != value and key != "epochs"]
        if changed:
            raise UsageError(
                str(run), f"begun with another {', '.join(changed)}", "use another -o or delete the folder"
            )
    write_file(path, json.dumps(asdict(recipe), indent=1).encode())
