"""How a Res-UNet is trained by a recipe, from data folders to a float32 `.keras` file. One file, top to bottom.

A run lives in a folder beside the model (`MODEL.run/`): state.npz to resume from, log.csv, curve.png. Killed at any
moment, the same command goes on with the last finished epoch.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow takes oneDNN by itself on some processors only; on AVX2 a full-size step is 1.5 times as fast with it.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import cv2
import keras
import numpy as np
import tensorflow as tf

from edge_runtime.errors import UsageError
from edge_runtime.images import write_file

from .batches import draw_batches
from .data import SPLITS, Slice, read_arrays, read_folder
from .heldout import check_start, write_split
from .loss import add_heads, deep_loss
from .metrics import Scores
from .nets import build_net
from .paper import follow_plateau
from .recipe import Recipe
from .weights import take_weights


def train(
    recipe: Recipe, folders: Sequence[Path], extra: Sequence[Path], model_path: Path, until: int | None = None
) -> Path:
    """Train and write `model_path` (.keras, float32) with the weights that scored best; return it.

    folders are split by patient or slice; those of `extra` are trained on only. until: stop after this epoch; the
    same call without it goes on from there.
    Raises: UsageError if a folder is unusable or the run's folder belongs to another recipe.
    """
    keras.utils.set_random_seed(recipe.seed)
    cv2.setNumThreads(1)  # the augmenting thread must not fight the training threads for cores
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
    held = "other patients" if recipe.split == "patient" else "any patient"
    say(f"{len(training)} slices to train on, {len(validation)} of {held} to validate on, {len(test)} to test")

    learner = Learner(model, recipe, steps=recipe.epochs * (len(training) // recipe.batch))
    state = learner.load(run / "state.npz")
    arrays_size, best = 0, state["best"]
    for epoch in range(state["epoch"], recipe.epochs if until is None else min(until, recipe.epochs)):
        size = recipe.small_size if epoch < recipe.small_epochs else recipe.size
        if recipe.schedule == "plateau":
            past = [row for row in read_log(run, epoch) if int(row["size"]) == size]
            learner.plateau, stop = follow_plateau([float(row["val_binary_io_u"]) for row in past], recipe)
            if stop:
                say(f"stopped after epoch {epoch}: {recipe.stop_patience} epochs without improvement")
                break
        if size != arrays_size:
            train_arrays = read_arrays(training, size, recipe.colour)
            valid_arrays = read_arrays(validation, size, recipe.colour)
            arrays_size = size
        if epoch == recipe.small_epochs and recipe.small_epochs:
            best = -1.0  # scores at two sizes do not compare
        started = time.monotonic()
        loss = learner.run_epoch(train_arrays, epoch, started)
        scores = learner.validate(valid_arrays, [item.kind for item in validation])
        row = {"epoch": epoch + 1, "size": size, "rate": learner.rate(), "loss": loss, **scores}
        row["seconds"] = time.monotonic() - started
        if scores["val_binary_io_u"] > best:
            best = scores["val_binary_io_u"]
            save_float32(learner.averaged_weights(), recipe, model_path)
        write_log(run, row)
        learner.save(run / "state.npz", {"epoch": epoch + 1, "best": best})
        say(" ".join(f"{key} {value:.4g}" for key, value in row.items()))
    return model_path


def split_folders(recipe: Recipe, folders: Sequence[Path]) -> tuple[list[Slice], list[Slice], list[Slice]]:
    """Return the folders' slices to train on, to validate on and to test on."""
    slices = [item for folder in folders for item in read_folder(folder)]
    training, validation, test = SPLITS[recipe.split](slices, (recipe.share, recipe.test_share), recipe.seed)
    return training, validation, test


def build_start(recipe: Recipe, begun: bool) -> keras.Model:
    """Return the net with the weights to start from; a run that has begun brings its own."""
    keras.mixed_precision.set_global_policy(recipe.precision)
    model = build_net(recipe, None)
    if recipe.weights != "none" and not begun:
        fit = take_weights(recipe.weights, model)
        say(f"{recipe.weights}: weights for {len(fit)} of {sum(bool(layer.weights) for layer in model.layers)} layers")
    return model


class Learner:
    """The net, its optimizer and its averaged weights: one epoch, one validation, one state file at a time."""

    def __init__(self, model: keras.Model, recipe: Recipe, steps: int) -> None:
        self.model, self.recipe, self.steps = model, recipe, max(1, steps)
        self.net = add_heads(model) if recipe.deep else model  # what is trained; the model alone is validated and saved
        self.plateau = recipe.rate  # the epoch's rate, where the schedule follows the validation
        if recipe.weight_decay:
            self.optimizer = keras.optimizers.AdamW(recipe.rate, weight_decay=recipe.weight_decay)
            self.optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        else:
            self.optimizer = keras.optimizers.Adam(recipe.rate)
        self.optimizer.build(self.net.trainable_variables)
        self.averages = [tf.Variable(v.value, trainable=False) for v in model.weights]
        self.done = 0
        # One trace per image size; reduce_retracing would merge them into a slower dynamic shape.
        self.step = tf.function(self.take_step)
        self.predict = tf.function(lambda x: model(x, training=False))

    def rate(self) -> float:
        """Return the learning rate of the current step: the plateau's, or linear warm-up, then half a cosine."""
        if self.recipe.schedule == "plateau":
            return self.plateau
        progress = self.done / self.steps
        if progress < self.recipe.warm_up:
            return self.recipe.rate * (progress / self.recipe.warm_up + 1e-3)
        past = (progress - self.recipe.warm_up) / (1 - self.recipe.warm_up)
        return self.recipe.rate * 0.5 * (1 + float(np.cos(np.pi * min(1.0, past))))

    def take_step(self, images: Any, masks: Any) -> Any:
        """Take one optimizer step on images (N, H, W, C) and masks (N, H, W, 1); return the loss."""
        with tf.GradientTape() as tape:
            outputs = self.net(images, training=True)
            probabilities = outputs if self.recipe.deep else [outputs]
            loss = deep_loss(masks, probabilities, self.recipe.dice, self.recipe.deep)
        gradients = tape.gradient(loss, self.net.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.net.trainable_variables, strict=True))
        steps = tf.cast(self.optimizer.iterations, tf.float32)
        decay = tf.minimum(self.recipe.ema, (1 + steps) / (10 + steps))  # so that the random start is soon forgotten
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
            self.done += 1
            show_progress(epoch, len(losses), count, started)
        return float(np.mean([float(loss) for loss in losses]))

    def validate(self, arrays: tuple[np.ndarray, np.ndarray], kinds: Sequence[str]) -> dict[str, float]:
        """Score the averaged weights on images (N, H, W, C) and masks (N, H, W), uint8."""
        kept = [weight.numpy() for weight in self.model.weights]
        self.model.set_weights(self.averaged_weights())
        scores = score_arrays(self.predict, arrays, kinds, self.recipe.batch)
        self.model.set_weights(kept)
        return {f"val_{key}": value for key, value in scores.items()}

    def averaged_weights(self) -> list[np.ndarray]:
        """Return the averaged weights in the order of `model.get_weights()`."""
        return [average.numpy() for average in self.averages]

    def variables(self) -> list[Any]:
        """Return everything that a resumed run must find as it was."""
        return [*self.net.weights, *self.optimizer.variables, *self.averages]

    def save(self, path: Path, facts: dict[str, float]) -> None:
        """Write the state file, whole or not at all."""
        temporary = path.with_suffix(".tmp.npz")
        values = {f"v{i}": np.asarray(v.numpy()) for i, v in enumerate(self.variables())}
        np.savez(temporary, facts=json.dumps({**facts, "done": self.done}), **values)
        temporary.replace(path)

    def load(self, path: Path) -> dict[str, Any]:
        """Restore a state file if there is one; return its facts, or those of a run that begins."""
        if not path.is_file():
            return {"epoch": 0, "best": -1.0}
        with np.load(path) as state:
            facts: dict[str, Any] = json.loads(str(state["facts"]))
            for i, variable in enumerate(self.variables()):
                variable.assign(state[f"v{i}"])
        self.done = facts["done"]
        say(f"resumed after epoch {facts['epoch']}")
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
    """Write a float32 `.keras` file of fixed size: a model trained in bfloat16 does not convert."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    model = build_net(recipe, recipe.size)
    model.set_weights(weights)
    keras.mixed_precision.set_global_policy(policy)
    temporary = path.with_name(f".{path.stem}.tmp.keras")
    model.save(temporary)
    temporary.replace(path)


def check_output(model_path: Path, run: Path) -> None:
    """Refuse, before any work, a name that Keras would not save to, or a model that is not this run's."""
    if model_path.suffix != ".keras":
        raise UsageError(str(model_path), "its name does not end in .keras", "rename it")
    if model_path.exists() and not run.is_dir():
        raise UsageError(str(model_path), "it exists already", "choose another -o")


def check_split(training: Sequence[Slice], validation: Sequence[Slice], recipe: Recipe) -> None:
    """Refuse data that give no batch to train on or no tumour to validate on."""
    if len(training) < recipe.batch:
        why = f"{len(training)} slices are fewer than one batch of {recipe.batch}"
        raise UsageError("training data", why, "add slices or lower --batch")
    if all(item.mask is None for item in validation):
        why = f"none of the {len(validation)} held-out slices has a tumour"
        raise UsageError("validation data", why, "add patients: a fifth of each class is held out")


def check_run(run: Path, recipe: Recipe) -> None:
    """Make the run's folder, or check that the one there was begun with this recipe."""
    path = run / "recipe.json"
    if path.is_file():
        begun = {**asdict(Recipe()), **json.loads(path.read_text())}  # a field that came later had its default
        changed = [key for key, value in asdict(recipe).items() if begun[key] != value and key != "epochs"]
        if changed:
            raise UsageError(
                str(run), f"begun with another {', '.join(changed)}", "use another -o or delete the folder"
            )
    write_file(path, json.dumps(asdict(recipe), indent=1).encode())


def read_log(run: Path, epochs: int) -> list[dict[str, Any]]:
    """Return a run's first epochs, as far as they are in its log."""
    path = run / "log.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["epoch"]) <= epochs]


def write_log(run: Path, row: dict[str, float]) -> None:
    """Append an epoch to log.csv, dropping rows that a resumed run repeats, and redraw curve.png."""
    rows: list[dict[str, Any]] = [*read_log(run, int(row["epoch"]) - 1), row]
    with (run / "log.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row), extrasaction="ignore")  # an older log may have other columns
        writer.writeheader()
        writer.writerows(rows)
    draw_curve(rows, run / "curve.png")


def draw_curve(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw loss and validation scores over the epochs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    epochs = [int(row["epoch"]) for row in rows]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
    axes[0].plot(epochs, [float(row["loss"]) for row in rows])
    axes[0].set(title="Training loss", xlabel="epoch")
    for key, label in (("val_binary_io_u", "BinaryIoU"), ("val_tumour_iou", "tumour IoU"), ("val_dice", "mean Dice")):
        axes[1].plot(epochs, [float(row[key]) for row in rows], label=label)
    axes[1].set(title="Validation", xlabel="epoch", ylim=(0, 1))
    axes[1].legend(loc="lower right")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def show_progress(epoch: int, step: int, count: int, started: float) -> None:
    """Rewrite one line on a terminal; nothing in a pipe."""
    if sys.stderr.isatty():
        left = (time.monotonic() - started) / step * (count - step)
        print(f"\repoch {epoch + 1} {step}/{count} {left:4.0f} s left ", end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print a line of words."""
    print(("\r\x1b[K" if sys.stderr.isatty() else "") + text, file=sys.stderr, flush=True)
