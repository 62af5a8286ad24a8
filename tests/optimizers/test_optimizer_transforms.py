"""Every transform against Optax, Keras or TensorFlow, and how transforms compose."""

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
import tensorflow as tf

from optimizers.adam import Adam
from optimizers.adamw import Adamw
from optimizers.gradient_descent import GradientDescent
from optimizers.momentum import Momentum
from optimizers.transforms._schedule import half_cosine
from optimizers.transforms.accumulate import Accumulate
from optimizers.transforms.clip_by_global_norm import ClipByGlobalNorm
from optimizers.transforms.clip_by_norm import ClipByNorm
from optimizers.transforms.clip_by_value import ClipByValue
from optimizers.transforms.constant import Constant
from optimizers.transforms.cosine import Cosine
from optimizers.transforms.exponential import Exponential
from optimizers.transforms.linear_warmup import LinearWarmup
from optimizers.transforms.lookahead import Lookahead
from optimizers.transforms.one_cycle import OneCycle
from optimizers.transforms.step import Step
from optimizers.transforms.switch import Switch
from optimizers.transforms.warmup_stable_decay import WarmupStableDecay
from optimizers.transforms.weight_decay import WeightDecay

ADAM = Adam()
PEAK = 0.1


def _peer_adam(rate=PEAK):
    return optax.adam(rate, eps=ADAM.epsilon)


# Spans of 40 in trajectories of 60: what follows the end is compared too.
SCHEDULES = {
    "constant": (Constant(ADAM, scale=0.3), optax.constant_schedule(0.3 * PEAK)),
    "step": (
        Step(ADAM, steps=40, boundaries=(0.25, 0.5, 0.9), scale=0.3),
        optax.piecewise_constant_schedule(PEAK, {10: 0.3, 20: 0.3, 36: 0.3}),
    ),
    "exponential": (
        Exponential(ADAM, steps=40, final=0.05),
        optax.exponential_decay(PEAK, transition_steps=40, decay_rate=0.05),
    ),
    "cosine": (
        Cosine(ADAM, steps=40, final=0.1),
        optax.cosine_decay_schedule(PEAK, decay_steps=40, alpha=0.1),
    ),
    "linear_warmup": (
        LinearWarmup(ADAM, steps=40, warmup=0.5, initial=0.2),
        optax.linear_schedule(0.2 * PEAK, PEAK, transition_steps=20),
    ),
    "one_cycle": (
        OneCycle(ADAM, steps=40),
        optax.cosine_onecycle_schedule(transition_steps=40, peak_value=PEAK),
    ),
    "warmup_stable_decay": (
        WarmupStableDecay(ADAM, steps=40, warmup=0.25, decay=0.5, final=0.1),
        optax.join_schedules(
            [
                optax.linear_schedule(0.0, PEAK, 10),
                optax.constant_schedule(PEAK),
                optax.linear_schedule(PEAK, 0.1 * PEAK, 20),
            ],
            [10, 20],
        ),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_follow_optax(name, descend, ours, by_optax, assert_same):
    scheduled, schedule = SCHEDULES[name]
    factors = [scheduled.factor(tf.constant(float(t), tf.float64)).numpy() for t in range(60)]
    expected = [schedule(jnp.asarray(t)) for t in range(60)]
    np.testing.assert_allclose(np.array(factors) * PEAK, expected, rtol=1e-12, atol=1e-17)
    # Optax counts in int32, which JAX divides in float32, even where all else is float64.
    peer = _peer_adam(lambda count: schedule(count.astype(jnp.float64)))
    assert_same(descend(ours(scheduled, PEAK)), descend(by_optax(peer)))


def test_one_cycle_follows_its_own_factors():
    """Optax takes the peak at a whole number of updates; any share is allowed here."""
    cycle = OneCycle(ADAM, steps=10, warmup=0.25, initial=0.2, final=0.1)
    factors = [float(cycle.factor(tf.constant(float(t), tf.float64))) for t in range(13)]
    times = np.arange(13.0)
    up = 1 - 0.8 * (1 + np.cos(np.pi * times / 2.5)) / 2
    down = 0.1 + 0.9 * (1 + np.cos(np.pi * np.minimum((times - 2.5) / 7.5, 1))) / 2
    np.testing.assert_allclose(factors, np.where(times < 2.5, up, down), rtol=1e-12)


def test_schedules_follow_keras():
    cosine = keras.optimizers.schedules.CosineDecay(1.0, decay_steps=40, alpha=0.1)
    exponential = keras.optimizers.schedules.ExponentialDecay(1.0, decay_steps=40, decay_rate=0.05)
    for t in range(60):
        at = tf.constant(float(t), tf.float64)
        # Keras computes a schedule in float32.
        assert float(SCHEDULES["cosine"][0].factor(at)) == pytest.approx(float(cosine(t)), rel=1e-6)
        assert float(SCHEDULES["exponential"][0].factor(at)) == pytest.approx(float(exponential(t)), rel=1e-6)


def test_momentum_keeps_the_rates_of_earlier_steps(descend, ours, by_keras, assert_same):
    """The learning rate is inside the velocity, as in Keras: a fall reaches new gradients alone."""
    # Keras' boundary is the last update before the fall.
    fall = keras.optimizers.schedules.PiecewiseConstantDecay([9], [0.125, 0.0625])
    peer = keras.optimizers.SGD(fall, momentum=0.75)
    scheduled = Step(Momentum(0.75), steps=40, boundaries=(0.25,), scale=0.5)
    assert_same(descend(ours(scheduled, 0.125)), descend(by_keras(peer)))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_half_cosine_keeps_its_digits(dtype, compiled):
    progress = np.linspace(0, 1, 10001).astype(dtype)
    exact = np.sin(np.longdouble(np.pi) / 2 * (1 - progress.astype(np.longdouble))) ** 2
    found = tf.function(half_cosine, jit_compile=compiled)(tf.constant(progress)).numpy()
    assert found[0] == 1
    assert found[-1] == 0
    error = np.abs(found[:-1] / exact[:-1] - 1).astype(float).max()
    # π / 2, the factor 1 - progress, six products and the square, rounded once each.
    assert error < 8 * np.finfo(dtype).eps


@pytest.mark.parametrize(
    "schedule, first, last",
    [
        (LinearWarmup(ADAM, steps=10, warmup=0.0), 1.0, 1.0),
        (LinearWarmup(ADAM, steps=10, warmup=1.0), 0.0, 1.0),
        (WarmupStableDecay(ADAM, steps=10, warmup=0.0, decay=0.0), 1.0, 1.0),
        (WarmupStableDecay(ADAM, steps=10, warmup=1.0, decay=0.0), 0.0, 1.0),
        (WarmupStableDecay(ADAM, steps=10, warmup=0.0, decay=1.0), 1.0, 0.0),
        (OneCycle(ADAM, steps=10, warmup=0.0, final=0.25), 1.0, 0.25),
        (OneCycle(ADAM, steps=10, warmup=1.0, initial=0.5, final=0.25), 0.5, 0.25),
    ],
)
def test_a_phase_may_last_no_time_or_all(schedule, first, last):
    factors = [float(schedule.factor(tf.constant(float(t)))) for t in range(15)]
    assert np.isfinite(factors).all()
    assert (factors[0], factors[10], factors[14]) == (first, last, last)


@pytest.mark.parametrize("schedule", [Step, Exponential, Cosine, LinearWarmup, OneCycle, WarmupStableDecay])
def test_a_schedule_without_budget_says_so(schedule):
    params = tf.constant([1.0])
    optimizer = schedule(GradientDescent())
    with pytest.raises(ValueError, match=r"has no `steps`.*steps=1000"):
        optimizer.update(params, params, optimizer.init(params), 0.1, tf.constant(0))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        schedule(GradientDescent(), steps=0).factor(tf.constant(0.0))


CLIPS = {
    "clip_by_value": (ClipByValue(ADAM, 0.5), optax.clip(0.5)),
    "clip_by_global_norm": (ClipByGlobalNorm(ADAM, 1.5), optax.clip_by_global_norm(1.5)),
}


@pytest.mark.parametrize("name", CLIPS)
def test_clipping_follows_optax(name, descend, ours, by_optax, assert_same):
    clipped, clip = CLIPS[name]
    assert_same(descend(ours(clipped, PEAK)), descend(by_optax(optax.chain(clip, _peer_adam()))))


def test_clip_by_norm_follows_keras(descend, ours, by_keras, assert_same):
    peer = keras.optimizers.SGD(0.125, clipnorm=1.5)
    assert_same(descend(ours(ClipByNorm(GradientDescent(), 1.5), 0.125)), descend(by_keras(peer)))


@pytest.mark.parametrize("clip", [ClipByNorm, ClipByGlobalNorm, ClipByValue])
def test_clipping_leaves_small_and_zero_gradients_alone(clip):
    params, grads = tf.zeros([3]), tf.constant([0.25, 0.0, -0.25])
    for g in (grads, 0.0 * grads):
        stepped, _ = clip(GradientDescent(), 1.0).update(params, g, {}, 1.0, tf.constant(0))
        np.testing.assert_array_equal(stepped, -g)


def test_global_norm_spans_dtypes():
    grads = {
        "a": tf.constant([3.0]),
        "b": tf.constant([4.0], tf.float64),
        "c": tf.constant([0.0], tf.bfloat16),
    }
    zeros = tf.nest.map_structure(tf.zeros_like, grads)
    stepped, _ = ClipByGlobalNorm(GradientDescent(), 1.0).update(zeros, grads, {}, 1.0, tf.constant(0))
    np.testing.assert_allclose(stepped["a"], [-0.6], rtol=1e-7)
    np.testing.assert_allclose(stepped["b"], [-0.8], rtol=1e-15)


def test_weight_decay_follows_keras(descend, ours, by_keras, assert_same):
    peer = keras.optimizers.SGD(0.125, momentum=0.75, weight_decay=0.0625)
    decayed = WeightDecay(Momentum(0.75), weight_decay=0.0625)
    assert_same(descend(ours(decayed, 0.125)), descend(by_keras(peer)))


def test_weight_decay_of_adam_is_adamw(descend, ours, assert_same):
    assert_same(
        descend(ours(WeightDecay(ADAM, weight_decay=0.1), PEAK)),
        descend(ours(Adamw(weight_decay=0.1), PEAK)),
    )


def test_lookahead_follows_optax(descend, ours, assert_same):
    class ByOptax:
        """`optax.lookahead` updates a pair of parameters; the fast ones get the gradients."""

        def start(self, params):
            self.peer = optax.lookahead(_peer_adam(), sync_period=6, slow_step_size=0.4)
            self.params = optax.LookaheadParams.init_synced([jnp.asarray(p) for p in params])
            self.state = self.peer.init(self.params)
            self.slow = []

        def step(self, grads, t):
            updates, self.state = self.peer.update(grads, self.state, self.params)
            self.params = optax.apply_updates(self.params, updates)
            self.slow.append([np.asarray(p) for p in self.params.slow])
            return [np.asarray(p) for p in self.params.fast]

    class Ours(ours):
        def step(self, grads, t):
            fast = super().step(grads, t)
            self.slow = [*getattr(self, "slow", []), self.evaluated()]
            return fast

    mine, peer = Ours(Lookahead(ADAM, sync_period=6, slow_step_size=0.4), PEAK), ByOptax()
    assert_same(descend(mine, 50), descend(peer, 50))
    assert_same(mine.slow, peer.slow)


@pytest.mark.parametrize("every", [1, 2, 4])
def test_accumulate_follows_optax(every, descend, ours, by_optax, assert_same):
    peer = optax.MultiSteps(_peer_adam(), every_k_schedule=every, accumulator_dtype=jnp.float64)
    assert_same(descend(ours(Accumulate(ADAM, every=every), PEAK)), descend(by_optax(peer)))


def test_a_schedule_around_accumulation_counts_gradients(descend, ours, assert_same):
    """The learning rate of every fourth gradient applies, of a cosine over 60 gradients."""
    scheduled = descend(ours(Cosine(Accumulate(GradientDescent(), every=4), steps=60), PEAK), 60)
    by_hand = Accumulate(GradientDescent(), every=4)

    class ByHand(ours):
        def step(self, grads, t):
            self.rate = PEAK * (1 + np.cos(np.pi * t / 60)) / 2
            return super().step(grads, t)

    assert_same(scheduled, descend(ByHand(by_hand, PEAK), 60))


def test_switch_is_two_runs_of_optax(descend, ours, assert_same):
    """SGD with momentum for 20 updates, then a fresh Adam from where it stands."""

    class TwoRuns:
        def start(self, params):
            self.params = [jnp.asarray(p) for p in params]
            self.begin(optax.sgd(PEAK, momentum=0.9))

        def begin(self, peer):
            self.peer, self.state = peer, peer.init(self.params)

        def step(self, grads, t):
            if t == 20:
                self.begin(_peer_adam())
            updates, self.state = self.peer.update(grads, self.state, self.params)
            self.params = optax.apply_updates(self.params, updates)
            return [np.asarray(p) for p in self.params]

    assert_same(descend(ours(Switch(Momentum(), ADAM, at=20), PEAK)), descend(TwoRuns()))


def test_switch_starts_the_second_from_the_parameters_at_the_switch(descend, ours, assert_same):
    """Look-ahead's slow weights are parameters: those at the switch, not those at the start."""

    class ByHand(ours):
        def step(self, grads, t):
            if t == 20:
                self.optimizer = Lookahead(GradientDescent(), sync_period=7)
                self.update = self.optimizer.update
                self.state = self.optimizer.init(self.params)
            return super().step(grads, t - 20 if t >= 20 else t)

    hybrid = ours(Switch(ADAM, Lookahead(GradientDescent(), sync_period=7), at=20), PEAK)
    by_hand = ByHand(ADAM, PEAK)
    assert_same(descend(hybrid), descend(by_hand))
    np.testing.assert_allclose(hybrid.evaluated()[0], by_hand.evaluated()[0], rtol=1e-12)


@pytest.mark.parametrize("at, steps, after", [(0, 5, 0), (5, 5, 5), (5, 6, 5), (6, 5, 5), (2, 9, 2)])
def test_switch_evaluates_by_the_optimizer_at_work(at, steps, after, descend, ours):
    """By the first's parameters before the switch, then by look-ahead's, which are those at the switch."""
    hybrid = ours(Switch(GradientDescent(), Lookahead(GradientDescent(), sync_period=100), at=at), PEAK)
    trajectory = [[np.linspace(-2.0, 2.5, 6).reshape(3, 2)], *descend(hybrid, steps)]
    np.testing.assert_array_equal(hybrid.evaluated()[0], trajectory[after][0])


def test_constant_gives_the_halves_of_a_switch_their_own_rates(descend, ours):
    hybrid = descend(ours(Switch(GradientDescent(), Constant(GradientDescent(), scale=3.0), at=10), 0.05), 10)
    plain = descend(ours(GradientDescent(), 0.05), 10)
    np.testing.assert_array_equal(hybrid[9][0], plain[9][0])
    switched = descend(ours(Switch(GradientDescent(), Constant(GradientDescent(), scale=3.0), at=0), 0.05))
    tripled = descend(ours(GradientDescent(), 0.15))
    np.testing.assert_allclose(switched[-1][0], tripled[-1][0], rtol=1e-12)


def test_evaluation_passes_through_every_transform():
    """Each hands on to the optimizer inside: look-ahead's slow weights reach the outside."""
    params = tf.constant([1.0, -2.0])
    inner = Lookahead(GradientDescent(), sync_period=100)
    wrapped = [
        ClipByValue(inner),
        ClipByNorm(inner),
        ClipByGlobalNorm(inner),
        WeightDecay(inner),
        Constant(inner),
        Step(inner, steps=9),
        Exponential(inner, steps=9),
        Cosine(inner, steps=9),
        LinearWarmup(inner, steps=9),
        OneCycle(inner, steps=9),
        WarmupStableDecay(inner, steps=9),
        Accumulate(inner, every=1),
        Lookahead(inner),
        Switch(inner, GradientDescent(), at=100),
    ]
    for optimizer in wrapped:
        moved, state = params, optimizer.init(params)
        for t in range(3):
            moved, state = optimizer.update(moved, moved, state, 0.1, tf.constant(t))
        assert not np.array_equal(moved, params)
        np.testing.assert_array_equal(optimizer.eval_params(moved, state), params)


def test_transforms_offer_the_learning_rates_inside():
    assert Cosine(ClipByValue(ADAM)).learning_rates == ADAM.learning_rates
    low, high = zip(ADAM.learning_rates, GradientDescent.learning_rates, strict=True)
    assert Switch(ADAM, GradientDescent()).learning_rates == (min(low), max(high))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Lookahead(ADAM, sync_period=0), "sync_period of at least 1"),
        (lambda: Accumulate(ADAM, every=0), "`every` of at least 1"),
        (lambda: Switch(ADAM, ADAM, at=-1), "`at` of at least 0"),
    ],
)
def test_periods_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
