"""Classification of scikit-learn's handwritten digits: the data, their split, batches, losses and metrics.

The data are real: 1,797 images of 8 x 8 pixels with values 0 to 16, the test set of "Optical Recognition of
Handwritten Digits" (Alpaydin and Kaynak, UCI Machine Learning Repository, 1998), shipped with scikit-learn.
Pixels are divided by 16 (range one), and each pixel's mean over the training images is taken off.

The split is fixed, stratified and needs no random numbers: of the images of each class, in the data's
order, those numbered 0, 1, 2 modulo 5 are for training, 3 for validation, 4 for testing (60/20/20).
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from . import _streams
from ._fields import check_common

SIDE, CLASSES = 8, 10
PIXELS = SIDE * SIDE
SPLITS = ("train", "validation", "test")
FILE = "datasets/data/digits.csv.gz"  # in scikit-learn
FOLD_OF_FIVE = np.array(["train", "train", "train", "validation", "test"])


class Examples(NamedTuple):
    """Images and their labels."""

    images: Any  # tensor or numpy array [examples, 64], zero mean over the training images
    labels: Any  # [examples, 10], one-hot


def split(classes: np.ndarray) -> dict[str, np.ndarray]:
    """The places of each part's images, stratified by class: {"train", "validation", "test": [examples] int}.

    Args:
        classes: [examples] int, in the data's order.
    """
    number_in_class = np.zeros(len(classes), int)
    for one in np.unique(classes):
        number_in_class[classes == one] = np.arange(np.count_nonzero(classes == one))
    fold = FOLD_OF_FIVE[number_in_class % 5]
    return {name: np.flatnonzero(fold == name) for name in SPLITS}


def _pixels_and_classes() -> tuple[np.ndarray, np.ndarray]:
    """[1797, 64] and [1797], as `sklearn.datasets.load_digits` has them: importing that takes a second, and
    reading its file a fiftieth."""
    package = find_spec("sklearn")
    file = Path(package.origin).parent / FILE if package is not None and package.origin else None
    if file is not None and file.is_file():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1].astype(np.intp)
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    return np.asarray(pixels), np.asarray(classes)


@functools.cache
def digits(side: int = SIDE) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and one-hot labels of each part as float64 arrays, read once per process.

    Args:
        side: of the images in pixels; other than 8, they are scaled bilinearly.

    Returns:
        {"train": (images [1085, side * side], labels [1085, 10]), "validation": 357 of them, "test": 355}.
    """
    pixels, classes = _pixels_and_classes()
    places = split(classes)
    images = pixels / 16.0
    if side != SIDE:
        maps = images.reshape(-1, SIDE, SIDE, 1)
        with tf.init_scope():  # values, whatever is being traced
            scaled = tf.image.resize(maps, [side, side], method="bilinear")
        images = np.asarray(scaled, np.float64).reshape(-1, side * side)
    images = images - images[places["train"]].mean(axis=0)
    one_hot = np.eye(CLASSES)[classes]
    return {name: (images[place], one_hot[place]) for name, place in places.items()}


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy in nats, log sum_k exp z_k - z_label, averaged over examples: a scalar.

    The label's logit is picked by a product with the one-hot labels, which lifts to lanes as it is.

    Args:
        logits: [examples, classes] float32 or float64.
        labels: [examples, classes] one-hot, same dtype.
    """
    return tf.reduce_mean(cross_entropies(logits, labels))


def cross_entropies(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """`cross_entropy` of each example, [examples]."""
    picked = tf.reduce_sum(labels * logits, axis=-1)
    return tf.reduce_logsumexp(logits, axis=-1) - picked


def hits(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """1 for each example whose largest logit is the label's, else (and where logits are NaN) 0: [examples].

    Args:
        logits: [examples, classes] float32 or float64.
        labels: [examples, classes] one-hot, same dtype.
    """
    right = tf.equal(tf.argmax(logits, axis=-1), tf.argmax(labels, axis=-1))
    known = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
    return tf.cast(right & known, logits.dtype)


def initial_layers(seed, shapes: Sequence[tuple[int, int]], dtype: str) -> tuple[dict[str, tf.Tensor], ...]:
    """Weights drawn per seed, biases zero: He uniform for hidden layers, Glorot uniform for the last.

    He: limit sqrt(6 / inputs) (He, Zhang, Ren and Sun, ICCV 2015), for layers that a ReLU follows.
    Glorot: limit sqrt(6 / (inputs + outputs)) (Glorot and Bengio, AISTATS 2010).

    Args:
        seed: Python int or integer scalar tensor.
        shapes: (inputs, outputs) of each layer, in order.
        dtype: of the parameters.

    Returns:
        One {"weight": [inputs, outputs], "bias": [outputs]} per layer.
    """
    layers = []
    for place, (inputs, outputs) in enumerate(shapes):
        fan = inputs if place < len(shapes) - 1 else inputs + outputs
        share = _streams.uniform(_streams.INIT, seed, place, [inputs, outputs])
        weight = (2.0 * share - 1.0) * (6.0 / fan) ** 0.5
        layers.append({"weight": tf.cast(weight, dtype), "bias": tf.zeros([outputs], dtype)})
    return tuple(layers)


def dense(layer: dict[str, tf.Tensor], inputs: tf.Tensor) -> tf.Tensor:
    """inputs @ weight + bias: [rows, inputs] -> [rows, outputs]."""
    return tf.matmul(inputs, layer["weight"]) + layer["bias"]


@dataclass(frozen=True)
class DigitsClassifier(abc.ABC):
    """A classifier of the digits: what its file adds is its first parameters and its logits.

    A batch is drawn anew for each (seed, step), uniformly and with replacement: there are no epochs.

    Args:
        batch_size: examples in a batch.
        target: validation loss (mean cross-entropy, nats) to reach.
        steps: budget of updates.
        dtype: of the parameters and of the images; losses and metrics are at least float32.
    """

    batch_size: int = 64
    target: float = 0.2
    steps: int = 300
    dtype: str = "float32"
    target_metric: ClassVar[str] = "validation_loss"
    domain: ClassVar[None] = None
    minimizers: ClassVar[tuple[tuple[float, ...], ...]] = ()
    optimum: ClassVar[None] = None
    side: ClassVar[int] = SIDE  # a file whose images may have another makes it a field

    @abc.abstractmethod
    def init(self, seed):
        """First parameters of `seed`."""

    @abc.abstractmethod
    def logits(self, params, images: tf.Tensor) -> tf.Tensor:
        """[examples, pixels] -> [examples, 10], in the dtype of the parameters."""

    def __post_init__(self):
        check_classifier(self)

    def batch(self, seed, step) -> Examples:
        """The step's images and one-hot labels, [batch, pixels] in `dtype` and [batch, 10] in the loss's."""
        return self.batch_of(_streams.indices(_streams.BATCH, seed, step, self.batch_size, self._choices))

    def draws(self, seed, steps) -> tf.Tensor:
        """The places of several steps' images in the training part, [steps, batch] int32."""
        return _streams.indices_of_steps(_streams.BATCH, seed, steps, self.batch_size, self._choices)

    def batch_of(self, draw: tf.Tensor) -> Examples:
        """A step's batch from the places of its images, [batch]."""
        images, one_hot = digits(self.side)["train"]
        return Examples(
            images=tf.gather(tf.constant(images, self.dtype), draw),
            labels=tf.gather(tf.constant(one_hot, self._loss_dtype), draw),
        )

    @property
    def _choices(self) -> int:
        return len(digits(self.side)["train"][0])

    def loss(self, params, batch: Examples) -> tf.Tensor:
        """Mean cross-entropy of the batch, a scalar."""
        return cross_entropy(self._wide_logits(params, batch.images), batch.labels)

    def objective(self, params) -> tf.Tensor | None:
        """None: the whole of what is minimised is too dear for every step; see `monitor`."""
        return None

    def monitor(self, params) -> dict[str, tf.Tensor]:
        """`validation_loss` and `validation_accuracy`, scalars."""
        return self._metrics(params, "monitor")

    def evaluate(self, params) -> dict[str, tf.Tensor]:
        """Loss and accuracy of every part, `train_loss` to `test_accuracy`: scalars."""
        return self._metrics(params, "evaluate")

    def measured(self, name: str) -> dict[str, Examples]:
        """The parts that `monitor` or `evaluate` tells of, numpy arrays in the dtypes of a batch."""
        dtype = tf.as_dtype(self.dtype).as_numpy_dtype
        parts = {part: digits(self.side)[part] for part in (("validation",) if name == "monitor" else SPLITS)}
        return {
            part: Examples(images.astype(dtype), one_hot.astype(self._loss_dtype))
            for part, (images, one_hot) in parts.items()
        }

    def measure(self, params, batch: Examples) -> dict[str, tf.Tensor]:
        """`loss` and `accuracy` of each example, [examples]."""
        logits = self._wide_logits(params, batch.images)
        return {"loss": cross_entropies(logits, batch.labels), "accuracy": hits(logits, batch.labels)}

    def _metrics(self, params, of: str) -> dict[str, tf.Tensor]:
        """One pass over the images of all parts, then the means of each."""
        parts = self.measured(of)
        whole = tf.nest.map_structure(lambda *leaves: tf.constant(np.concatenate(leaves)), *parts.values())
        values, metrics, first = self.measure(params, whole), {}, 0
        for name, part in parts.items():
            last = first + len(part.labels)
            metrics |= {f"{name}_{k}": tf.reduce_mean(v[first:last]) for k, v in values.items()}
            first = last
        return metrics

    def _wide_logits(self, params, images: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.logits(params, images), self._loss_dtype)

    @property
    def _loss_dtype(self) -> str:
        return "float64" if self.dtype == "float64" else "float32"


def check_classifier(classifier: DigitsClassifier) -> None:
    """Raise a sentence where a field cannot be used; a file with a check of its own calls this after it.

    Raises:
        ValueError: says which field, what it is and what was expected.
    """
    name = type(classifier).__name__
    check_common(name, classifier.dtype, classifier.steps)
    if not is_count(classifier.batch_size):
        raise ValueError(f"{name}: batch_size = {classifier.batch_size!r}; it is a whole number, 1 or more.")
    if not classifier.target > 0:
        raise ValueError(f"{name}: target = {classifier.target!r}; a cross-entropy is above 0.")


def is_count(value) -> bool:
    """Whether `value` is a whole number, 1 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
