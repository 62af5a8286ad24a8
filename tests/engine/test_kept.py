"""Tensors that programs change in place: where they lie, and what is left of what was there before."""

from __future__ import annotations

import gc
import threading
from itertools import combinations
from typing import Any
from weakref import ref

import numpy as np
import pytest

from harness import graphs, kept
from harness.kept import Kept
from harness.runtime import tensorflow

tf = tensorflow()


@pytest.fixture
def two() -> Kept:
    return Kept({"a": tf.TensorSpec([3], tf.float32), "b": tf.TensorSpec([3], tf.float32)})


def numbers(nest: Any) -> list[list[float]]:
    return [np.asarray(leaf).tolist() for leaf in tf.nest.flatten(nest)]


def add_one(of: Kept) -> graphs.Graph:
    """A program that adds one to all that is kept."""

    def fn(handles: Any) -> Any:
        more = tf.nest.map_structure(lambda leaf: leaf + 1.0, of.read(handles))
        with tf.control_dependencies(of.write(handles, more)):
            return tf.constant(0)

    return graphs.Graph(fn, 0, jit=True, name="add_one")


def test_what_a_program_changes_is_read_when_it_is_asked_for(two: Kept) -> None:
    program, shelf = add_one(two), two.mine
    shelf.put({"a": np.array([1, 2, 3], np.float32), "b": tf.zeros([3])})
    for more in (1, 2):
        program(shelf.handles)
        found = shelf.changed()
        assert sorted(found) == ["a", "b"]
        assert numbers(found) == [[1.0 + more, 2.0 + more, 3.0 + more], [more] * 3]
        assert (found["a"].shape, found["a"].dtype) == ([3], tf.float32)
        assert found["a"].numpy().tolist() == tf.convert_to_tensor(found["a"]).numpy().tolist()
        shelf.put(found)


def test_tensors_that_were_put_there_or_read_stay_as_they_are(two: Kept) -> None:
    program, shelf = add_one(two), two.mine
    mine = tf.constant([1.0, 2.0, 3.0])
    shelf.put({"a": mine, "b": mine})
    program(shelf.handles)
    found = shelf.changed()
    tensor, array = found["a"].value(), np.asarray(found["b"])
    shelf.put(found)
    program(shelf.handles)
    assert numbers(shelf.changed()) == [[3.0, 4.0, 5.0]] * 2
    assert mine.numpy().tolist() == [1.0, 2.0, 3.0]
    assert tensor.numpy().tolist() == array.tolist() == [2.0, 3.0, 4.0]


def test_what_a_later_call_has_changed_is_not_mistaken_for_what_was(two: Kept) -> None:
    found = two.mine.changed()
    two.mine.changed()
    with pytest.raises(RuntimeError, match="after the next call"):
        found["a"].value()
    with pytest.raises(RuntimeError, match="after the next call"):
        tf.convert_to_tensor(found["b"])


def test_each_thread_has_its_own(two: Kept) -> None:
    mine, theirs = two.mine, []
    thread = threading.Thread(target=lambda: theirs.append(two.mine))
    thread.start()
    thread.join()
    theirs[0].put({"a": tf.ones([3]), "b": tf.ones([3])})
    assert two.mine is mine is not theirs[0]
    assert numbers(mine.changed()) == [[0.0] * 3] * 2
    assert numbers(theirs[0].changed()) == [[1.0] * 3] * 2
    found = theirs[0].changed()
    mine.put(found)  # as where a carry goes from thread to thread
    assert numbers(mine.changed()) == [[1.0] * 3] * 2


def test_a_thread_has_one_of_those_that_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LARGE", 100)

    def made(size: int, **how: bool) -> Kept:
        return Kept([tf.TensorSpec([size], tf.float32)], **how)

    large = [made(26, one_at_a_time=True) for _ in range(2)]
    others = [made(25, one_at_a_time=True), made(26)]
    shelves = {id(each): each.mine for each in (*others, *large)}
    assert all(each.mine is shelves[id(each)] for each in (*others, large[1]))
    found = shelves[id(large[0])].changed()
    assert large[0].mine is not shelves[id(large[0])]
    assert large[1].mine is not shelves[id(large[1])]
    assert numbers(found) == [[0.0] * 26]


def test_gone_with_what_is_kept() -> None:
    of = Kept([tf.TensorSpec([1], tf.float32)])
    shelf = ref(of.mine)
    assert shelf() is not None
    del of
    gc.collect()
    assert shelf() is None


def test_places_that_are_not_mistaken_for_each_other() -> None:
    if "CPU" not in tf.zeros([1]).device:
        pytest.skip("addresses are of a CPU's memory")
    for numbers_of in (16, 2048, 25600):
        shelf = Kept([tf.TensorSpec([numbers_of], tf.float32)] * 3).mine
        places = [np.asarray(leaf).ctypes.data % kept.PAGE for leaf in shelf.changed()]
        for a, b in combinations(places, 2):
            gap = (a - b) % kept.PAGE
            assert gap == 0 or kept.NEAR <= gap <= kept.PAGE - kept.NEAR
