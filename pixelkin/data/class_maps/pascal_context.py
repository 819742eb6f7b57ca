"""PASCAL Context: the whole scene of the images of VOC 2010, 459 classes, 59 of them in benchmarks.

Mottaghi, Chen, Liu, Cho, Lee, Fidler, Urtasun, Yuille: The Role of Context for Object Detection
and Semantic Segmentation in the Wild, CVPR 2014.
"""

import os
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int64
from scipy.io import loadmat

from pixelkin.data.class_maps.files import REMEDY, ClassMapFiles, class_table, classes_of
from pixelkin.data.class_maps.voc import listed_files
from pixelkin.data.instances.voc import VOC_CLASSES, listed_names
from pixelkin.data.reading import decoded, require_folder, require_size
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

ClassCount = Literal[59, 60]

CONTEXT_CLASSES = (
    *VOC_CLASSES,
    "bag", "bed", "bench", "book", "building", "cabinet", "ceiling", "clothes", "computer", "cup",
    "door", "fence", "floor", "flower", "food", "grass", "ground", "keyboard", "light", "mountain",
    "mouse", "curtain", "platform", "sign", "plate", "road", "rock", "shelves", "sidewalk", "sky",
    "snow", "bedcloth", "track", "tree", "truck", "wall", "water", "window", "wood",
)  # fmt: skip
"""The 59 in the order of the data set's `59_labels.txt`."""

_RAW_NAME = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}

_LAYOUT = "VOC 2010 (JPEGImages, ImageSets/Main) with PASCAL Context's trainval/<name>.mat"


class PascalContext(ClassMapFiles):
    """The images of a split (4,998 of train, 5,105 of val), from the raw maps of 459 classes.

    Raw classes are joined to the 59 by name. Labels are indices into the 59, and all else is
    `IGNORE`; or, of 60, 0 is background, all else, and the 59 follow.

    Args:
        root: folder of VOC 2010, with `JPEGImages` and `ImageSets/Main`.
        split: a list in `ImageSets/SegmentationContext` or `ImageSets/Main`: `"train"` or `"val"`.
        classes: 59, or 60 with background.
        annotations: folder that holds `trainval/<name>.mat`; `root` where None.

    Raises:
        PixelkinError: a folder, or a file of an image, is missing, the split or `classes` is
            unknown; on reading, a file is corrupt or has no `LabelMap`, or sizes differ.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        classes: ClassCount = 59,
        annotations: str | os.PathLike[str] | None = None,
    ) -> None:
        if classes not in get_args(ClassCount):
            raise PixelkinError(f"classes is {classes!r}: expected 59, or 60 with background")
        base = Path(root)
        images = require_folder(base / "JPEGImages", _LAYOUT)
        maps = require_folder(Path(annotations or base) / "trainval", _LAYOUT)
        lists = base / "ImageSets" / "SegmentationContext"
        if not (lists / f"{split}.txt").is_file():
            lists = require_folder(base / "ImageSets" / "Main", _LAYOUT)
        names = listed_names(lists, split)
        files = {name: (images / f"{name}.jpg", maps / f"{name}.mat") for name in names}
        files = listed_files(files, lists / f"{split}.txt")
        background = classes == 60
        super().__init__(files, (*("background",) * background, *CONTEXT_CLASSES))
        self._table = context_table(classes)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        raw = read_label_map(path)
        require_size(path, raw.shape, size_hw)
        return classes_of(raw, self._table, path, expected=f"0 to {len(CONTEXT_RAW_CLASSES)}")


def context_table(classes: ClassCount = 59) -> Int64[np.ndarray, " n"]:
    """Label of each raw number 0 … 459, joined by name; 0 is a pixel that nobody labelled."""
    background = classes == 60
    numbers = {name: number for number, name in enumerate(CONTEXT_RAW_CLASSES, start=1)}
    chosen = {
        numbers[_RAW_NAME.get(name, name)]: index
        for index, name in enumerate(CONTEXT_CLASSES, start=background)
    }
    others = 0 if background else IGNORE
    every = range(len(CONTEXT_RAW_CLASSES) + 1)
    return class_table({n: chosen.get(n, others) for n in every}, size=len(every))


def read_label_map(path: Path) -> Int64[np.ndarray, "h w"]:
    """Raw class of every pixel, 0 … 459, int64 (H, W).

    Raises:
        PixelkinError: the file is no MATLAB file with a `LabelMap` of whole numbers.
    """

    def decode() -> np.ndarray[Any, Any] | None:
        found: np.ndarray[Any, Any] | None = loadmat(path, variable_names=["LabelMap"]).get(
            "LabelMap"
        )
        return found

    raw = decoded(path, decode, kind="MAT-file")
    if raw is None or raw.ndim != 2 or raw.dtype.kind not in "uif" or (raw != np.floor(raw)).any():
        raise PixelkinError(f"{path} holds no LabelMap of whole numbers H×W; {REMEDY}")
    return raw.astype(np.int64)


CONTEXT_RAW_CLASSES = tuple(
    """
accordion, aeroplane, air conditioner, antenna, artillery, ashtray, atrium, baby carriage, bag,
ball, balloon, bamboo weaving, barrel, baseball bat, basket, basketball backboard, bathtub, bed,
bedclothes, beer, bell, bench, bicycle, binoculars, bird, bird cage, bird feeder, bird nest,
blackboard, board, boat, bone, book, bottle, bottle opener, bowl, box, bracelet, brick, bridge,
broom, brush, bucket, building, bus, cabinet, cabinet door, cage, cake, calculator, calendar,
camel, camera, camera lens, can, candle, candle holder, cap, car, card, cart, case,
casette recorder, cash register, cat, cd, cd player, ceiling, cell phone, cello, chain, chair,
chessboard, chicken, chopstick, clip, clippers, clock, closet, cloth, clothes tree, coffee,
coffee machine, comb, computer, concrete, cone, container, control booth, controller, cooker,
copying machine, coral, cork, corkscrew, counter, court, cow, crabstick, crane, crate, cross,
crutch, cup, curtain, cushion, cutting board, dais, disc, disc case, dishwasher, dock, dog,
dolphin, door, drainer, dray, drink dispenser, drinking machine, drop, drug, drum, drum kit, duck,
dumbbell, earphone, earrings, egg, electric fan, electric iron, electric pot, electric saw,
electronic keyboard, engine, envelope, equipment, escalator, exhibition booth, extinguisher,
eyeglass, fan, faucet, fax machine, fence, ferris wheel, fire extinguisher, fire hydrant,
fire place, fish, fish tank, fishbowl, fishing net, fishing pole, flag, flagstaff, flame,
flashlight, floor, flower, fly, foam, food, footbridge, forceps, fork, forklift, fountain, fox,
frame, fridge, frog, fruit, funnel, furnace, game controller, game machine, gas cylinder, gas hood,
gas stove, gift box, glass, glass marble, globe, glove, goal, grandstand, grass, gravestone,
ground, guardrail, guitar, gun, hammer, hand cart, handle, handrail, hanger, hard disk drive, hat,
hay, headphone, heater, helicopter, helmet, holder, hook, horse, horse-drawn carriage,
hot-air balloon, hydrovalve, ice, inflator pump, ipod, iron, ironing board, jar, kart, kettle, key,
keyboard, kitchen range, kite, knife, knife block, ladder, ladder truck, ladle, laptop, leaves,
lid, life buoy, light, light bulb, lighter, line, lion, lobster, lock, machine, mailbox, mannequin,
map, mask, mat, match book, mattress, menu, metal, meter box, microphone, microwave, mirror,
missile, model, money, monkey, mop, motorbike, mountain, mouse, mouse pad, musical instrument,
napkin, net, newspaper, oar, ornament, outlet, oven, oxygen bottle, pack, pan, paper, paper box,
paper cutter, parachute, parasol, parterre, patio, pelage, pen, pen container, pencil, person,
photo, piano, picture, pig, pillar, pillow, pipe, pitcher, plant, plastic, plate, platform, player,
playground, pliers, plume, poker, poker chip, pole, pool table, postcard, poster, pot, pottedplant,
printer, projector, pumpkin, rabbit, racket, radiator, radio, rail, rake, ramp, range hood,
receiver, recorder, recreational machines, remote control, road, robot, rock, rocket,
rocking horse, rope, rug, ruler, runway, saddle, sand, saw, scale, scanner, scissors, scoop,
screen, screwdriver, sculpture, scythe, sewer, sewing machine, shed, sheep, shell, shelves, shoe,
shopping cart, shovel, sidecar, sidewalk, sign, signal light, sink, skateboard, ski, sky, sled,
slippers, smoke, snail, snake, snow, snowmobiles, sofa, spanner, spatula, speaker, speed bump,
spice container, spoon, sprayer, squirrel, stage, stair, stapler, stick, sticky note, stone, stool,
stove, straw, stretcher, sun, sunglass, sunshade, surveillance camera, swan, sweeper, swim ring,
swimming pool, swing, switch, table, tableware, tank, tap, tape, tarp, telephone, telephone booth,
tent, tire, toaster, toilet, tong, tool, toothbrush, towel, toy, toy car, track, train, trampoline,
trash bin, tray, tree, tricycle, tripod, trophy, truck, tube, turtle, tvmonitor, tweezers,
typewriter, umbrella, unknown, vacuum cleaner, vending machine, video camera, video game console,
video player, video tape, violin, wakeboard, wall, wallet, wardrobe, washing machine, watch, water,
water dispenser, water pipe, water skate board, watermelon, whale, wharf, wheel, wheelchair,
window, window blinds, wineglass, wire, wood, wool
""".replace("\n", " ").strip().split(", ")
)  # fmt: skip
"""The 459 raw classes, in the order of their numbers, which start at 1 (`labels.txt`)."""
