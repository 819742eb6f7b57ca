"""Baselines: other ways of following objects through a clip, in one form for honest tables.

A method is a callable

    (frames: Iterable[uint8 (H, W, 3)], first_labels: uint8 (H, W)) -> Iterator[uint8 (H, W)]

Frames are RGB, all of one size. `first_labels` is the label map of the first frame: 0 background,
ids 1 … 254, `IGNORE` unknown. The method yields one label map per frame: first `first_labels`
itself, then its own, with 0 and the ids of `first_labels`. It streams: it reads a frame when its
label map is asked for, and never holds the clip. A wrong input raises `PixelkinError` when the
first map is asked for, a frame of another size when its turn comes.

`copy_first.copy_first` and `optical_flow.carry_by_flow` are methods as they stand. `Untrained`,
`Osvos` and `MaskTrack` are built with a network, and the objects are methods; clips do not
influence each other.
"""
