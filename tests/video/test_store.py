"""The store is a dictionary that keeps to its budget."""

import errno
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from pixelkin.errors import PixelkinError
from pixelkin.video.store import ArrayStore


def arrays_of(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    kinds = [np.float16, np.float32, np.uint8, np.int64]
    shapes = [(3,), (2, 5), (1, 4, 3, 2), (7,)]
    return tuple(
        rng.integers(0, 100, shapes[rng.integers(4)]).astype(kinds[rng.integers(4)])
        for _ in range(rng.integers(1, 4))
    )


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        x.dtype == y.dtype and x.shape == y.shape and np.array_equal(x, y)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("seed", range(5))
def test_store_is_a_dictionary_within_its_budget(tmp_path, seed):
    rng = np.random.default_rng(seed)
    store = ArrayStore(300, directory=tmp_path)
    expected: dict[object, tuple[np.ndarray, ...]] = {}
    for _ in range(400):
        key = ("fields", int(rng.integers(25)))
        action = rng.choice(["put", "put", "get", "discard"])
        if action == "put":
            expected[key] = arrays_of(rng)
            store.put(key, tuple(a.copy() for a in expected[key]))
        elif action == "discard":
            store.discard(key)
            expected.pop(key, None)
        else:
            found = store.get(key)
            assert (found is None) == (key not in expected)
            assert found is None or same(found, expected[key])
        assert (key in store) == (key in expected)
        assert len(store) == len(expected)
        assert sorted(store) == sorted(expected)
        in_memory = list(store._in_memory)
        assert store.memory_bytes == sum(a.nbytes for k in in_memory for a in expected[k])
        assert store.memory_bytes <= 300 or len(in_memory) == 1
    assert store.file_bytes > 0
    for key, arrays in expected.items():
        assert same(store.get(key), arrays)
    assert list(tmp_path.iterdir()) == []
    store.close()
    assert len(store) == 0
    assert store.memory_bytes == 0


def test_least_recently_used_goes_to_the_file(tmp_path):
    store = ArrayStore(30, directory=tmp_path)
    for name in "abc":
        store.put(name, (np.zeros(10, np.uint8),))
    assert store.file_bytes == 0
    store.get("a")
    store.put("d", (np.zeros(10, np.uint8),))
    assert store.file_bytes == 10
    assert "b" in store._in_file


def test_room_in_the_file_is_used_again(tmp_path):
    store = ArrayStore(8, directory=tmp_path)
    for turn in range(50):
        for key in range(6):
            store.put(key, (np.full(8, turn + key, np.uint8),))
    assert store.file_bytes <= 7 * 8
    for key in range(6):
        assert store.get(key)[0].tolist() == [49 + key] * 8


def test_array_beyond_the_budget_is_kept_alone(tmp_path):
    store = ArrayStore(8, directory=tmp_path)
    store.put("small", (np.ones(4, np.uint8),))
    store.put("big", (np.arange(100),))
    assert list(store._in_memory) == ["big"]
    store.put("next", (np.ones(4, np.uint8),))
    assert list(store._in_memory) == ["next"]
    assert np.array_equal(store.get("big")[0], np.arange(100))


def test_strided_arrays_come_back(tmp_path):
    store = ArrayStore(8, directory=tmp_path)
    strided = np.arange(24).reshape(4, 6).T[::2]
    store.put(0, (strided,))
    store.put(1, (np.zeros(1),))
    assert 0 in store._in_file
    assert np.array_equal(store.get(0)[0], strided)


def test_killed_process_leaves_no_file(tmp_path):
    program = """
        import os, signal, sys
        from pathlib import Path
        import numpy as np
        from pixelkin.video.store import ArrayStore
        store = ArrayStore(8, directory=Path(sys.argv[1]))
        for key in range(5):
            store.put(key, (np.zeros(1000),))
        assert store.file_bytes >= 8000
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_line_and_loses_nothing(tmp_path, monkeypatch):
    store = ArrayStore(100, directory=tmp_path)
    expected = {key: (np.full(50, key, np.uint8),) for key in range(4)}
    for key in range(3):
        store.put(key, expected[key])
    real = os.pwrite

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(PixelkinError, match="no space is left on the disk") as caught:
        store.put(3, expected[3])
    assert "\n" not in str(caught.value)
    for key, arrays in expected.items():
        assert same(store.get(key), arrays)
    monkeypatch.setattr(os, "pwrite", real)
    store.put(4, (np.full(50, 4, np.uint8),))
    assert store.memory_bytes <= 100
    for key, arrays in expected.items():
        assert same(store.get(key), arrays)


def test_partial_writes_are_continued(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: real(file, data[:7], at))
    store = ArrayStore(8, directory=tmp_path)
    store.put(0, (np.arange(20), np.arange(5.0)))
    store.put(1, (np.zeros(1),))
    assert same(store.get(0), (np.arange(20), np.arange(5.0)))


def test_missing_folder_is_one_line(tmp_path):
    store = ArrayStore(8, directory=tmp_path / "gone")
    store.put(0, (np.zeros(1),))
    with pytest.raises(PixelkinError, match=r"cannot write .*gone"):
        store.put(1, (np.zeros(1),))
    assert store.get(0)[0].tolist() == [0]


@pytest.mark.parametrize("budget", [0, -1])
def test_budget_must_be_positive(budget):
    with pytest.raises(PixelkinError, match="memory budget"):
        ArrayStore(budget)


def test_store_can_be_used_after_close(tmp_path):
    store = ArrayStore(8, directory=tmp_path)
    for _ in range(2):
        for key in range(3):
            store.put(key, (np.full(8, key, np.uint8),))
        assert store.get(0)[0].tolist() == [0] * 8
        store.close()
        store.close()
        assert store.get(0) is None
