"""The paper's method bare: each cell takes the label that its nearest labelled cells vote for.

    python examples/plain_retrieval.py [CLIP MASK] [--start FRAME] [--frames N] [--out FOLDER]

Y. Chen, J. Pont-Tuset, A. Montes, L. Van Gool, CVPR 2018, section 3. No mask decoder and no memory
of what came before: every frame is judged by the references alone, so frames may come in any order.
MASK is an indexed PNG of the frame FRAME; without both, a cyclist in a clip of `.[demo]`.
"""

import argparse
from importlib.resources import files
from pathlib import Path

import torch

import pixelkin
from pixelkin.demo.scenes import clips_folder
from pixelkin.errors import one_line_errors
from pixelkin.grouping.references import Mask, label_cells
from pixelkin.grouping.retrieval import decide, make_store, retrieve
from pixelkin.grouping.upsample import upsample_scores
from pixelkin.masks import read_indexed_png, write_indexed_png
from pixelkin.media import open_clip


@one_line_errors()
def main(arguments: list[str] | None = None) -> None:
    """Embed, store, retrieve, upsample, decide."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, help="video, or folder of images")
    first_mask = files("pixelkin.demo") / "bikes_first_mask.png"
    parser.add_argument("mask", nargs="?", default=first_mask, help="indexed PNG of frame START")
    parser.add_argument("--start", type=int, default=30, help="number of the first frame")
    parser.add_argument("--frames", type=int, default=12, help="how many")
    parser.add_argument("--out", type=Path, default=Path("retrieved"), help="folder for the masks")
    given = parser.parse_args(arguments)

    runtime = pixelkin.load()
    store = None
    with open_clip(given.clip or clips_folder() / "bikes.mp4") as clip:
        (h, w), stop = clip.size_hw, min(given.start + given.frames, len(clip))
        for t, frame in enumerate(clip.frames(given.start, stop), start=given.start):
            fields = runtime.embed(frame)  # of the frame padded to whole cells
            embeddings, stride = fields.embeddings[0], fields.stride
            grid_hw = (embeddings.shape[1], embeddings.shape[2])
            if store is None:
                mask = Mask.from_labels(t, read_indexed_png(given.mask, size_hw=(h, w)))
                cells = label_cells([mask], (h, w), stride=stride, grid_hw=grid_hw)
                labels = torch.from_numpy(cells).to(embeddings.device)
                store = make_store(embeddings, labels, t=t, stride=stride)
                objects = max(mask.object_ids, default=1)
            scores = retrieve(embeddings, store, t=t, stride=stride, objects=objects, k=5)
            full = upsample_scores(scores[None], (grid_hw[0] * stride, grid_hw[1] * stride))[0]
            write_indexed_png(given.out / f"{t:05}.png", decide(full[:, :h, :w]).cpu().numpy())
    print(f"{stop - given.start} masks in {given.out}")


if __name__ == "__main__":
    main()
