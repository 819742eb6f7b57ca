"""A pixel's class from the patch around it: the sliding-window network of electron microscopy.

D. C. Cireşan, A. Giusti, L. M. Gambardella, J. Schmidhuber: "Deep Neural Networks Segment Neuronal
Membranes in Electron Microscopy Images", NeurIPS 2012, section 3, network N4. The exact dense form:
the same authors with J. Masci: "Fast image scanning with deep max-pooling convolutional neural
networks", ICIP 2013.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.channels import LUMA
from pixelkin.models.semantic_network import check_size
from pixelkin.models.shift_and_stitch import reach, run_dilated

KERNELS_PX = (4, 5, 4, 4)
"""Of N4's convolutions; a 2×2 max-pooling stands after each."""


class PatchNetwork(nn.Module):
    """Network N4: four convolutions with max-pooling and two full layers, on grey patches.

    Called on images it works on all patches at once, by `run_dilated`: the logits of a pixel are
    those that `classify_patches` has for the patch around it. Near the border the image is
    mirrored, its outermost pixels not repeated (ours; the paper says "mirrored").

    Args:
        classes: C; 2 in the paper.
        width: maps of each convolution.
        hidden: values of the first full layer.
        kernels_px: of the convolutions; others than N4's change the side of the patch.
        mean, std: of grey, for inputs in [0, 1].

    Attributes:
        patch_px: side of the patch; odd, 95 for N4.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        classes: int = 2,
        *,
        width: int = 48,
        hidden: int = 200,
        kernels_px: tuple[int, ...] = KERNELS_PX,
        mean: float = 0.5,
        std: float = 0.25,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.margin_px = 0
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        layers: list[nn.Module] = []
        channels = 1
        for kernel_px in kernels_px:
            layers += [nn.Conv2d(channels, width, kernel_px), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        # Full layers, as convolutions over all of the 3×3 cells that are left.
        layers += [nn.Conv2d(width, hidden, 3), nn.ReLU(), nn.Conv2d(hidden, classes, 1)]
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.patch_px = reach(self.layers).field_px
        if self.patch_px % 2 == 0:
            raise PixelkinError(
                f"kernels {kernels_px} see patches of {self.patch_px} px, which have no centre; "
                "make the first kernel one larger or smaller"
            )

    def valid_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Any size is valid that has a pixel."""
        return max(size_hw[0], 1), max(size_hw[1], 1)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Logits of every pixel, (N, C, H, W), of RGB images in [0, 1]."""
        check_size(self, (images.shape[-2], images.shape[-1]))
        return run_dilated(self.layers, self.padded_grey(images))

    def classify_patches(self, patches: Float[Tensor, "n 1 p p"]) -> Float[Tensor, "n c"]:
        """Logits of the centre pixel of grey patches as `padded_grey` has them.

        Raises:
            PixelkinError: the patches have another side.
        """
        if patches.shape[1:] != (1, self.patch_px, self.patch_px):
            raise PixelkinError(
                f"the patches are {tuple(patches.shape[1:])}, expected "
                f"{(1, self.patch_px, self.patch_px)}; cut grey windows of that side"
            )
        logits: Tensor = self.layers(patches)
        return logits.flatten(1)

    def padded_grey(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 H W"]:
        """Normalised grey images, mirrored by half a patch on every side."""
        shares = images.new_tensor(LUMA).view(1, 3, 1, 1)
        grey = (images * shares).sum(1, keepdim=True)
        return mirror_pad((grey - self.mean) / self.std, self.patch_px // 2)


def mirror_pad(maps: Float[Tensor, "n c h w"], margin_px: int) -> Float[Tensor, "n c H W"]:
    """Maps mirrored at their outermost rows and columns, which are not repeated.

    As `F.pad(mode="reflect")`, but the margin may be wider than the map: it is then mirrored again
    at the other end.
    """
    rows, columns = (_mirrored(side, margin_px, maps.device) for side in maps.shape[-2:])
    return maps[..., rows, :][..., columns]


def _mirrored(side: int, margin_px: int, device: torch.device) -> Tensor:
    place = torch.arange(-margin_px, side + margin_px, device=device)
    # A tensor, since exporters know no remainder by a number that the size decides.
    period = torch.full_like(place, max(2 * (side - 1), 1))
    place = place % period
    return torch.minimum(place, period - place)


@torch.no_grad()
def classify_pixels(
    network: PatchNetwork, image: Float[Tensor, "3 h w"], *, batch_size: int = 256
) -> Float[Tensor, "c h w"]:
    """Logits of every pixel by the paper's sliding window: one patch per pixel, in batches.

    What `network(image[None])[0]` gives in evaluation mode, at several hundred times the price.

    Args:
        network: in the mode it shall work in.
        image: RGB in [0, 1].
        batch_size: patches per pass.

    Raises:
        PixelkinError: the image is empty or not RGB, or `batch_size` is below 1.
    """
    if image.ndim != 3 or image.shape[0] != 3 or min(image.shape) < 1 or batch_size < 1:
        raise PixelkinError(
            f"got an image of shape {tuple(image.shape)} and batches of {batch_size}: expected "
            "(3, height, width) with pixels, and at least 1"
        )
    height, width = image.shape[1:]
    side = network.patch_px
    windows = network.padded_grey(image[None])[0, 0].unfold(0, side, 1).unfold(1, side, 1)
    parts = []
    for start in range(0, height * width, batch_size):
        pixels = torch.arange(start, min(start + batch_size, height * width), device=image.device)
        patches = windows[pixels // width, pixels % width]
        parts.append(network.classify_patches(patches[:, None]))
    return torch.cat(parts).T.reshape(network.classes, height, width)
