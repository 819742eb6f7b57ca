"""Which items make a batch."""

import pytest

from pixelkin.engine.batches import StepSampler
from pixelkin.errors import PixelkinError

pytest.importorskip("lightning.fabric")


def test_sampler_covers_every_pass_and_shards_alike() -> None:
    def visits(start: int = 0, rank: int = 0, world: int = 1) -> list[list[tuple[int, int]]]:
        return list(
            StepSampler(
                10, batch_size=4, start=start, steps=15, seed=1, rank=rank, world_size=world
            )
        )

    alone = visits()
    flat = [visit for batch in alone for visit in batch]
    assert [number for _, number in flat] == list(range(60))
    passes = [[i for i, _ in flat[a : a + 10]] for a in range(0, 60, 10)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1
    assert visits(start=6) == alone[6:]
    halves = [visits(rank=rank, world=2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == alone
    with pytest.raises(PixelkinError, match="batch size 4 cannot be shared by 3"):
        visits(world=3)
