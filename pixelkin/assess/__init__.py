"""Methods judged on folders of clips, measured through the sessions that users run.

DAVIS protocols: the first mask of a sequence is given and all others are predicted (`assess`), or a
robot scribbles where the masks are worst (`assess_interactive`).
"""

from pixelkin.assess.files import Assessment, summarise
from pixelkin.assess.first_mask import assess
from pixelkin.assess.methods import METHODS, build_method, follow_first_mask, masks_in
from pixelkin.assess.robot import assess_interactive

__all__ = [
    "METHODS",
    "Assessment",
    "assess",
    "assess_interactive",
    "build_method",
    "follow_first_mask",
    "masks_in",
    "summarise",
]
