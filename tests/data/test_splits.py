import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelkin.data.splits import split_by_name, unknown_split
from pixelkin.errors import PixelkinError

names_strategy = st.lists(st.text(min_size=1), unique=True, max_size=40)
shares = st.floats(0, 1)


def held_out(names: list[str], share: float) -> set[str]:
    return {names[i] for i in split_by_name(names, validation=share)[1]}


@given(names_strategy, shares)
def test_every_index_is_in_exactly_one_part(names: list[str], share: float) -> None:
    train, validation = split_by_name(names, validation=share)
    assert sorted(train + validation) == list(range(len(names)))
    assert train == sorted(train)
    assert validation == sorted(validation)


@given(names_strategy, st.text(min_size=1), shares)
def test_membership_ignores_order_and_company(names: list[str], more: str, share: float) -> None:
    alone = held_out(names, share)
    assert held_out(names[::-1], share) == alone
    assert held_out([more, *(n for n in names if n != more)], share) - {more} == alone - {more}


@given(names_strategy, shares, shares)
def test_a_larger_share_keeps_the_smaller(names: list[str], one: float, other: float) -> None:
    assert held_out(names, min(one, other)) <= held_out(names, max(one, other))


def test_membership_follows_the_documented_hash() -> None:
    names = [f"{i:04d}" for i in range(200)]
    expected = [
        i
        for i, name in enumerate(names)
        if int(hashlib.sha256(f"pixelkin/{name}".encode()).hexdigest()[:16], 16) / 2**64 < 0.2
    ]
    assert split_by_name(names, validation=0.2)[1] == expected


def test_share_is_met_on_average_and_the_text_draws_another_split() -> None:
    names = [f"photo_{i}" for i in range(5000)]
    validation = split_by_name(names, validation=0.1)[1]
    assert 400 < len(validation) < 600
    assert split_by_name(names, validation=0.1, seed_text="other")[1] != validation


def test_zero_and_one_take_none_and_all() -> None:
    assert split_by_name(["a", "b"], validation=0) == ([0, 1], [])
    assert split_by_name(["a", "b"], validation=1) == ([], [0, 1])


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(PixelkinError, match="expected a share from 0 to 1"):
        split_by_name(["a"], validation=share)


def test_unknown_split_names_the_nearest() -> None:
    message = str(unknown_split("trian", ["val", "train"], where=Path("ImageSets")))
    assert "did you mean 'train'?" in message
    assert "\n" not in message
    none = str(unknown_split("val", [], where=Path("ImageSets")))
    assert none == "split 'val' is unknown: ImageSets holds no split at all; check the path"
