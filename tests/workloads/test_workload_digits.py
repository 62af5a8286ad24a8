"""The digit classifiers against Keras, TensorFlow's convolution and scikit-learn."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

from workloads import _digits
from workloads.digits_cnn import DigitsCnn
from workloads.digits_logistic import DigitsLogistic
from workloads.digits_mlp import DigitsMlp

CLASSIFIERS = [DigitsLogistic, DigitsMlp, DigitsCnn]
PIXELS, CLASSES = load_digits(return_X_y=True)


def arrays(params):
    """[weight, bias, weight, bias, ...], Keras' order."""
    return [layer[name].numpy() for layer in params for name in ("weight", "bias")]


def stirred(workload, seed=0):
    """Parameters with biases that are not zero."""
    generator = np.random.default_rng(seed)
    noise = tf.nest.map_structure(
        lambda leaf: 0.1 * generator.standard_normal(leaf.shape), workload.init(seed)
    )
    return tf.nest.map_structure(
        lambda leaf, extra: leaf + tf.cast(extra, leaf.dtype), workload.init(seed), noise
    )


@pytest.mark.parametrize("file", [_digits.FILE, "not/there.csv.gz"])
def test_the_data_are_scikit_learns(file, monkeypatch):
    monkeypatch.setattr(_digits, "FILE", file)
    pixels, classes = _digits._pixels_and_classes()
    np.testing.assert_array_equal(pixels, PIXELS)
    np.testing.assert_array_equal(classes, CLASSES)
    assert (pixels.dtype, classes.dtype) == (PIXELS.dtype, CLASSES.dtype)


def test_the_split_is_disjoint_complete_and_stratified():
    places = _digits.split(CLASSES)
    together = np.concatenate(list(places.values()))
    np.testing.assert_array_equal(np.sort(together), np.arange(1797))
    counts = {name: np.bincount(CLASSES[place], minlength=10) for name, place in places.items()}
    for name, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        # Every class has its share to within less than two images: a share is not a whole number of them.
        assert np.abs(counts[name] - share * np.bincount(CLASSES)).max() < 1.5
    assert {name: len(place) for name, place in places.items()} == {
        "train": 1085,
        "validation": 357,
        "test": 355,
    }


def test_images_have_zero_mean_over_training_and_unit_range():
    data = _digits.digits()
    images, labels = data["train"]
    np.testing.assert_allclose(images.mean(axis=0), 0, atol=1e-13)
    assert 0.9 < np.ptp(images, axis=0).max() <= 1.0
    np.testing.assert_array_equal(labels.argmax(axis=1), CLASSES[_digits.split(CLASSES)["train"]])
    mean = PIXELS[_digits.split(CLASSES)["train"]].mean(axis=0)
    for name, place in _digits.split(CLASSES).items():
        np.testing.assert_allclose(data[name][0] * 16 + mean, PIXELS[place], atol=1e-12)


def test_a_batch_holds_training_images_with_their_labels_drawn_uniformly():
    images, labels = _digits.digits()["train"]
    place_of = {image.tobytes(): place for place, image in enumerate(images)}
    assert len(place_of) == len(images)  # no two training images are the same
    workload = DigitsLogistic(dtype="float64", batch_size=1000)
    places = []
    for step in range(10):
        batch = workload.batch(1, step)
        drawn = [place_of[image.tobytes()] for image in batch.images.numpy()]
        np.testing.assert_array_equal(batch.labels, labels[drawn])
        places += drawn
    counts = np.bincount(places, minlength=len(images))
    assert stats.chisquare(counts).pvalue > 0.01
    assert len(set(places[:1000])) < 1000  # with replacement


@pytest.mark.parametrize(
    ("dtype", "loss_dtype"), [("float32", "float32"), ("bfloat16", "float32"), ("float64",) * 2]
)
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_dtypes_of_batches_and_losses(classifier, dtype, loss_dtype):
    workload = classifier(dtype=dtype, batch_size=7)
    params, batch = workload.init(0), workload.batch(0, 0)
    assert (batch.images.dtype, tuple(batch.images.shape)) == (dtype, (7, 64))
    assert (batch.labels.dtype, tuple(batch.labels.shape)) == (loss_dtype, (7, 10))
    assert workload.loss(params, batch).dtype == loss_dtype
    metrics = workload.evaluate(params)
    assert all(value.dtype == loss_dtype for value in metrics.values())
    exact = classifier(dtype="float64", batch_size=7)
    expected = exact.loss(exact.init(0), exact.batch(0, 0))
    tolerance = {"float32": 1e-6, "bfloat16": 1e-2, "float64": 0}[dtype]
    assert float(workload.loss(params, batch)) == pytest.approx(float(expected), rel=tolerance, abs=0)


@pytest.mark.parametrize("workload", [DigitsLogistic(), DigitsMlp(), DigitsMlp(hidden=(20, 12))], ids=repr)
def test_logits_and_loss_are_those_of_keras_layers(workload):
    params, batch = stirred(workload), workload.batch(0, 0)
    widths = getattr(workload, "hidden", ())
    layers = [keras.layers.Dense(width, activation="relu") for width in widths]
    model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10)])
    model.set_weights(arrays(params))
    expected = model(batch.images)
    np.testing.assert_allclose(workload.logits(params, batch.images), expected, rtol=1e-5, atol=1e-6)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)(batch.labels, expected)
    assert float(workload.loss(params, batch)) == pytest.approx(float(loss), rel=1e-6)


def cnn_of_patches(params, images):
    """The network as TensorFlow's patches and products: another way to write a convolution."""

    def convolved(maps, layer, padding):
        rows = tf.image.extract_patches(maps, [1, 3, 3, 1], [1, 1, 1, 1], [1, 1, 1, 1], padding)
        return tf.nn.relu(rows @ layer["weight"] + layer["bias"])

    one, two, last = params
    maps = convolved(tf.reshape(images, [-1, 8, 8, 1]), one, "SAME")
    maps = convolved(tf.nn.avg_pool2d(maps, 2, 2, "VALID"), two, "VALID")
    return tf.reshape(maps, [len(images), -1]) @ last["weight"] + last["bias"]


@pytest.mark.parametrize("filters", [(8, 16), (3, 5)])
def test_the_cnn_is_its_patches_and_products_in_value_and_gradient(filters):
    workload = DigitsCnn(filters=filters, dtype="float64")
    params, batch = stirred(workload), workload.batch(2, 3)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(params)
        logits = workload.logits(params, batch.images)
        expected = cnn_of_patches(params, batch.images)
        losses = [_digits.cross_entropy(values, batch.labels) for values in (logits, expected)]
    np.testing.assert_allclose(logits, expected, rtol=1e-11, atol=1e-13)
    gradients = [tf.nest.flatten(tape.gradient(loss, params)) for loss in losses]
    for ours, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-10, atol=1e-13)


def test_scikit_learns_logistic_regression_is_stationary_for_our_loss():
    images, labels = _digits.digits()["train"]
    strength = 0.1
    fitted = LogisticRegression(C=1 / (strength * len(images)), tol=1e-10, max_iter=10_000)
    fitted.fit(images, labels.argmax(axis=1))
    params = ({"weight": tf.constant(fitted.coef_.T), "bias": tf.constant(fitted.intercept_)},)
    workload = DigitsLogistic(dtype="float64")
    with tf.GradientTape() as tape:
        tape.watch(params)
        loss = workload.loss(params, _digits.Examples(tf.constant(images), tf.constant(labels)))
    (gradient,) = tape.gradient(loss, params)
    # scikit-learn minimises loss + strength / 2 |weight|^2: there the gradient is - strength weight.
    np.testing.assert_allclose(gradient["weight"], -strength * fitted.coef_.T, atol=1e-6)
    np.testing.assert_allclose(gradient["bias"], 0, atol=1e-6)
    assert float(loss) == pytest.approx(log_loss(labels, fitted.predict_proba(images)), rel=1e-9)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_metrics_are_scikit_learns_on_each_part(classifier):
    workload = classifier(dtype="float64")
    params = stirred(workload)
    metrics = {name: float(value) for name, value in workload.evaluate(params).items()}
    assert len(metrics) == 6
    for part, (images, labels) in _digits.digits().items():
        logits = workload.logits(params, tf.constant(images)).numpy()
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        assert metrics[f"{part}_loss"] == pytest.approx(log_loss(labels, probabilities), rel=1e-9)
        right = accuracy_score(labels.argmax(axis=1), logits.argmax(axis=1))
        assert metrics[f"{part}_accuracy"] == pytest.approx(right, rel=1e-12)
    monitored = {name: float(value) for name, value in workload.monitor(params).items()}
    assert monitored == pytest.approx(
        {name: metrics[name] for name in ("validation_loss", "validation_accuracy")}
    )


def test_a_network_of_nans_is_right_about_nothing():
    workload = DigitsLogistic()
    params = tf.nest.map_structure(lambda leaf: leaf * np.nan, workload.init(0))
    metrics = workload.monitor(params)
    assert np.isnan(metrics["validation_loss"])
    assert float(metrics["validation_accuracy"]) == 0.0


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_first_weights_are_uniform_within_their_limits_and_biases_zero(classifier):
    *hidden, last = classifier(dtype="float64").init(0)
    for layer, fan_of in [(layer, lambda i, o: i) for layer in hidden] + [(last, lambda i, o: i + o)]:
        inputs, outputs = layer["weight"].shape
        limit = np.sqrt(6 / fan_of(inputs, outputs))
        weights = layer["weight"].numpy().ravel()
        assert stats.kstest(weights, "uniform", args=(-limit, 2 * limit)).pvalue > 1e-3
        np.testing.assert_array_equal(layer["bias"], np.zeros(outputs))
    everything = np.concatenate([layer["weight"].numpy().ravel() for layer in (*hidden, last)])
    assert len(np.unique(np.abs(everything))) == everything.size  # no layer repeats another's draws


@pytest.mark.parametrize(
    ("classifier", "count"), [(DigitsLogistic, 650), (DigitsMlp, 2410), (DigitsCnn, 1898)]
)
def test_parameter_counts_are_those_of_the_description(classifier, count):
    assert sum(leaf.numpy().size for leaf in tf.nest.flatten(classifier().init(0))) == count
    assert f"{count:,} parameters" in classifier.__doc__.splitlines()[0]


def test_lists_as_yaml_gives_them_become_tuples():
    assert DigitsMlp(hidden=[32]) == DigitsMlp()
    assert hash(DigitsCnn(filters=[8, 16])) == hash(DigitsCnn())


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: DigitsLogistic(batch_size=0), "batch_size = 0"),
        (lambda: DigitsLogistic(target=0.0), "target = 0.0"),
        (lambda: DigitsLogistic(dtype="int32"), "dtype = 'int32'"),
        (lambda: DigitsMlp(hidden=(32, 0)), "1 unit or more"),
        (lambda: DigitsMlp(steps=-1), "steps = -1"),
        (lambda: DigitsCnn(filters=(8,)), "two whole numbers"),
    ],
)
def test_fields_that_cannot_be_used_are_refused_with_a_sentence(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()


def test_larger_images_keep_what_they_show() -> None:
    """28x28: the network's shapes, a finite loss whose gradient reaches every layer, and the same labels."""
    small, large = DigitsCnn(), DigitsCnn(side=28)
    params, batch = large.init(0), large.batch(0, 0)
    assert batch.images.shape == (64, 28 * 28) and params[2]["weight"].shape == (6 * 6 * 16, 10)
    np.testing.assert_array_equal(batch.labels, small.batch(0, 0).labels)
    shrunk = tf.image.resize(tf.reshape(batch.images, [-1, 28, 28, 1]), [8, 8], method="area")
    pairs = np.corrcoef(np.ravel(shrunk), np.ravel(small.batch(0, 0).images))
    assert pairs[0, 1] > 0.95
    with tf.GradientTape() as tape:
        tape.watch(params)
        loss = large.loss(params, batch)
    assert np.isfinite(loss)
    assert all(np.abs(g).max() > 0 for g in tf.nest.flatten(tape.gradient(loss, params)))


@pytest.mark.parametrize("side", [6, 9, 8.0, True])
def test_a_side_that_no_image_has_is_refused(side: object) -> None:
    with pytest.raises(ValueError, match="side = "):
        DigitsCnn(side=side)  # pyright: ignore[reportArgumentType]
