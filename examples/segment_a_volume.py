"""A volume larger than memory allows a 3-D network, in windows that are blended where they meet.

    python examples/segment_a_volume.py [SCAN.nii.gz] [--window 32] [--out FOLDER]

Put a network of your own where `network` stands: any torch module from a window (1, 1, z, y, x)
in [0, 1] to scores (1, C, z, y, x). Networks of pixelkin see slices, and need none of this:
`pixelkin predict MODEL SCAN.nii.gz --out FOLDER`. Without SCAN, a bright ball. FOLDER gets a NIfTI
file that lies on the scan. Needs nibabel, of the extra `medical`.
"""

import argparse
from pathlib import Path

import nibabel
import numpy as np
import torch
import torch.nn.functional as F

from pixelkin.data.class_maps.nifti import open_volume, save_segmentation, windowed
from pixelkin.data.volume_windows import slide_volume
from pixelkin.errors import one_line_errors


def network(window: torch.Tensor) -> torch.Tensor:
    """Class 1 where the mean of 5³ voxels is bright."""
    mean = F.avg_pool3d(window, 5, stride=1, padding=2, count_include_pad=False)
    return torch.cat((0.45 - mean, mean - 0.45), dim=1)


@one_line_errors()
def main(arguments: list[str] | None = None) -> None:
    """Read, slide, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", nargs="?", type=Path, help="NIfTI file, .nii or .nii.gz")
    parser.add_argument("--window", type=int, default=32, help="side of the windows, in voxels")
    parser.add_argument("--out", type=Path, default=Path("volume"), help="folder for the results")
    given = parser.parse_args(arguments)
    if given.scan is None:
        given.scan = given.out / "ball.nii"
        given.out.mkdir(parents=True, exist_ok=True)
        inside = np.linalg.norm(np.indices((48, 40, 44)) - 20.0, axis=0) < 12
        voxels = np.random.default_rng(0).normal(400 * inside - 200, 60).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1, 1, 2, 1])), given.scan)

    @torch.inference_mode()
    def predict(window: np.ndarray) -> np.ndarray:
        grey = torch.from_numpy(windowed(window, (-200, 250))).float().div(255)
        return network(grey[None, None])[0].numpy()

    volume = open_volume(given.scan)
    size = (given.window,) * 3
    # 2 voxels at the sides of a window see less than the network's field of 5.
    labels = slide_volume(predict, volume.read_zyx(), window_zyx=size, margin_zyx=(2, 2, 2))
    save_segmentation(given.out / f"segmented_{given.scan.name}", labels, like=volume)
    print(f"{given.scan.name}: {labels.mean():.1%} of {labels.shape} voxels")


if __name__ == "__main__":
    main()
