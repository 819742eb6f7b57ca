"""What a training may not be."""

from typing import Any

import pytest
from tiny_training import tiny

from pixelkin.errors import PixelkinError

pytest.importorskip("lightning.fabric")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"validate": None}, "no validate function"),
        ({"monitor": "", "patience": 2}, "nothing is monitored"),
        ({"data": []}, "data is empty"),
    ],
)
def test_trainings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PixelkinError, match=message):
        tiny(**changes)
