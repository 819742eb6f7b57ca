"""CamVid by every semantic network under one budget.

    pixelkin train recipes/camvid.py --data CamVid --out runs/light
    pixelkin train recipes/camvid.py --data CamVid --network unet --out runs/unet
    pixelkin evaluate camvid:CamVid --data-split val --model runs/light/model,runs/unet/model

CamVid holds `train`, `trainannot`, `val` and `valannot` as SegNet's authors published them: 11
classes at 480×360. The networks train on the set's own train and are judged, once, on its val.
Choices were made on another part, `--judge development`, a fifth held out of train.

The budget is the number of windows seen, 800 steps of 8 windows of 256 px, for all networks alike.
With `--size small`, made for two CPU cores, networks have the papers' structure at a fraction of
their channels, or a small backbone; `--size paper` takes the papers' own, which want a GPU.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pixelkin.data.class_maps.camvid import CamVid
from pixelkin.data.source import SemanticSource, Subset
from pixelkin.data.splits import split_by_name
from pixelkin.engine import Training
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.semantic import Balance
from pixelkin.trainings.semantic_networks import NetworkName, NetworkOptions
from pixelkin.trainings.semantic_user_data import train_on_maps

DEVELOPMENT = 0.2

LITE = "tf_efficientnet_lite0"
QUARTER = (16, 32, 64, 128, 128)

SMALL: dict[NetworkName, NetworkOptions] = {
    "light": NetworkOptions(),
    "timm-fcn": NetworkOptions(),
    "deeplab-v3-plus": NetworkOptions(backbone=LITE, channels=128),
    "deeplab-v2": NetworkOptions(backbone=LITE, output_stride=16),
    "unet": NetworkOptions(channels=16),
    "segnet": NetworkOptions(widths=QUARTER),
    "fcn32s": NetworkOptions(widths=QUARTER, head_channels=256),
    "fcn16s": NetworkOptions(widths=QUARTER, head_channels=256),
    "fcn8s": NetworkOptions(widths=QUARTER, head_channels=256),
    "patch": NetworkOptions(channels=12, head_channels=50),
}

WITH_BACKBONE = ("light", "timm-fcn", "deeplab-v3-plus", "deeplab-v2")


def recipe(
    *,
    data: Path,
    network: NetworkName = "light",
    size: Literal["small", "paper"] = "small",
    judge: Literal["validation", "development"] = "validation",
    optimisation: Optimisation = Optimisation(steps=800, weights="imagenet"),  # noqa: B008
    windows: Windows = Windows(crop_px=256),  # noqa: B008
    balance: Balance = Balance(),  # noqa: B008
) -> Training:
    """Everything of this training.

    Args:
        data: folder of CamVid.
        network: which.
        size: made for two CPU cores, or as in its paper.
        judge: held-out part that the model is judged on at the end.
        optimisation: windows seen = steps · batch_size. Its ImageNet weights are for the small
            backbones: other networks start from nothing, unless told otherwise.
        windows: what is cut from the stills.
        balance: how rare classes are made up for.
    """
    train: SemanticSource = CamVid(data, "train")
    held_out: SemanticSource
    if judge == "development":
        kept, judged = split_by_name(train.names, validation=DEVELOPMENT, seed_text="development")
        train, held_out = Subset(train, kept), Subset(train, judged)
    else:
        held_out = CamVid(data, "val")
    without = size == "paper" or network not in WITH_BACKBONE
    if without and optimisation.weights == "imagenet":
        optimisation = replace(optimisation, weights="none")
    return train_on_maps(
        train,
        held_out,
        network,
        options=SMALL[network] if size == "small" else NetworkOptions(),
        optimisation=optimisation,
        windows=windows,
        balance=balance,
        config={"data": data.name, "size": size, "judge": judge},
    )
