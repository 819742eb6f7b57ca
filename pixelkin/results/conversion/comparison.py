"""A written data set beside the one that was read, object by object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pixelkin.data.source import InstanceSource, SemanticSource
from pixelkin.errors import PixelkinError
from pixelkin.masks import rle_area
from pixelkin.results.conversion.class_formats import regions_sample
from pixelkin.results.conversion.instance_formats import Fate, InstanceWriter
from pixelkin.results.conversion.masks import overlap_px, unknown_with_crowds
from pixelkin.results.conversion.report import Changed, Report, UnknownChanged, Vanished
from pixelkin.structures import IGNORE, InstanceSample, Sample

_CROWD_WHY: dict[Fate, str] = {
    "unknown": "its pixels are unknown ones now, of no class",
    "lost": "the format has no crowds; it is left out",
}


class Comparison:
    """Losses of instances.

    Args:
        report: what they are added to.
        class_names: of the data set that was read.
        new_class_names: of that which was written.
    """

    def __init__(
        self, report: Report, class_names: Sequence[str], new_class_names: Sequence[str]
    ) -> None:
        self._report = report
        self._old, self._new = tuple(class_names), tuple(new_class_names)

    def add(
        self, before: InstanceSample, after: InstanceSample, writer: type[InstanceWriter]
    ) -> None:
        """Compare one still."""
        _require_size(before, after)
        origins = writer.origins(before, after)
        if len(origins) != len(after.instances):
            raise PixelkinError(
                f"{before.name} has {len(after.instances)} objects where {len(origins)} were "
                "written: expected the same; the files were changed meanwhile, convert again"
            )
        new_index = {old: new for new, old in enumerate(origins) if old is not None}
        for index, one in enumerate(before.instances):
            found = new_index.get(index)
            name = self._old[one.category]
            if one.crowd and writer.crowds != "kept":
                area = rle_area(one.rle, before.size_hw)
                why = _CROWD_WHY[writer.crowds]
                self._report.crowds.append(Vanished(before.name, index, name, area, why))
            elif found is None:
                self._gone(before, index)
            else:
                self._masks(before, after, index, found)
                new_name = self._new[after.instances[found].category]
                if new_name != name:
                    self._report.classes[name, new_name] += 1
        extra = next((new for new, old in enumerate(origins) if old is None), None)
        self._unknown(before, after, writer, after.ignore if extra is None else _rle(after, extra))
        self._report.instances += len(before.instances)

    def _gone(self, before: InstanceSample, index: int) -> None:
        one = before.instances[index]
        area = rle_area(one.rle, before.size_hw)
        why = "others cover it wholly" if area else "it has no pixel"
        name = self._old[one.category]
        self._report.vanished.append(Vanished(before.name, index, name, area, why))

    def _masks(self, before: InstanceSample, after: InstanceSample, index: int, found: int) -> None:
        one = before.instances[index]
        pixels, now, both = overlap_px(one.rle, _rle(after, found), before.size_hw)
        if pixels == now == both:
            return
        name = self._old[one.category]
        iou = both / (pixels + now - both)
        self._report.changed.append(
            Changed(before.name, index, name, pixels, pixels - both, now - both, iou)
        )

    def _unknown(
        self,
        before: InstanceSample,
        after: InstanceSample,
        writer: type[InstanceWriter],
        now_unknown: bytes | None,
    ) -> None:
        was = unknown_with_crowds(before) if writer.crowds == "unknown" else before.ignore
        pixels, now, both = overlap_px(was, now_unknown, before.size_hw)
        became = "crowd" if writer.unknown == "crowd" else "unknown"
        if pixels == now == both and (became == "unknown" or not pixels):
            return
        self._report.unknown.append(
            UnknownChanged(before.name, pixels, pixels - both, now - both, became)
        )


def compare_instances(
    old: InstanceSource,
    new: InstanceSource,
    names: Sequence[str],
    writer: type[InstanceWriter],
    report: Report,
    *,
    each: Callable[[str, Sequence[int]], Iterable[int]],
) -> None:
    """Add to `report` all that `new` has lost against `old`, one still at a time.

    Args:
        old: what was read.
        new: what was written.
        names: of the stills of `old` as `new` has them.
        writer: of the format.
        report: what losses are added to.
        each: goes through the numbers of the stills, and shows how far it is.
    """
    comparison = Comparison(report, old.class_names, new.class_names)
    place = {name: index for index, name in enumerate(new.names)}
    for index in each("compare", range(len(old))):
        before, after = old[index], new[_place(place, names[index])]
        comparison.add(before, after, writer)
        _images(before, after, report)
    gone = [name for name in old.class_names if name not in new.class_names]
    # Objects of these are told of already.
    told = {name for name, _ in report.classes}
    report.classes_lost = tuple(name for name in gone if name not in told)


def compare_class_maps(
    old: SemanticSource,
    new: SemanticSource,
    names: Sequence[str],
    report: Report,
    *,
    each: Callable[[str, Sequence[int]], Iterable[int]],
) -> None:
    """Add to `report` all that `new` has lost against `old`, as `compare_instances` does."""
    table = _labels_now(old.class_names, new.class_names)
    if _background_added(old.class_names, new.class_names):
        report.notes.append(
            f"class {new.class_names[0]!r} was added as 0, and all others moved up by one"
        )
    place = {name: index for index, name in enumerate(new.names)}
    for index in each("compare", range(len(old))):
        before, after = old[index], new[_place(place, names[index])]
        _images(before, after, report)
        regions = regions_sample(before)
        _require_size(regions, after)
        report.instances += len(regions.instances)
        if not (table[before.labels] == after.labels).all():
            _compare_regions(before, after, table, old.class_names, report)
    report.classes_lost = tuple(
        name for name in old.class_names if name and name not in new.class_names
    )


def _labels_now(
    old: Sequence[str], new: Sequence[str]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Label in the new list of classes by the old label; −1 where it is not there."""
    table = np.full(max(len(old), IGNORE + 1), -1, np.int64)
    # Names may be double.
    shift = int(_background_added(old, new))
    if tuple(new[shift:]) == tuple(old):
        table[: len(old)] = np.arange(len(old)) + shift
    else:
        position = {name: index for index, name in enumerate(new)}
        table[: len(old)] = [position.get(name, -1) for name in old]
    table[IGNORE] = IGNORE
    return table


def _background_added(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether `new` is `old` after a class for what no region covers, as of instances painted."""
    return len(new) == len(old) + 1 and tuple(new[1:]) == tuple(old)


def _compare_regions(
    before: Sample,
    after: Sample,
    table: np.ndarray[tuple[int], np.dtype[np.int64]],
    class_names: Sequence[str],
    report: Report,
) -> None:
    for label in np.unique(before.labels).tolist():
        was, now = before.labels == label, after.labels == table[label]
        pixels, both = int(was.sum()), int((was & now).sum())
        missing, added = pixels - both, int(now.sum()) - both
        if not (missing or added):
            continue
        if label == IGNORE:
            report.unknown.append(UnknownChanged(before.name, pixels, missing, added, "unknown"))
        elif not now.any():
            gone = Vanished(
                before.name, label, class_names[label], pixels, "others have its pixels"
            )
            report.vanished.append(gone)
        else:
            iou = both / (pixels + added)
            report.changed.append(
                Changed(before.name, label, class_names[label], pixels, missing, added, iou)
            )


def _images(
    before: InstanceSample | Sample, after: InstanceSample | Sample, report: Report
) -> None:
    if not np.array_equal(before.image, after.image):
        report.images.append(before.name)


def _place(place: dict[str, int], name: str) -> int:
    if name not in place:
        raise PixelkinError(
            f"the still {name} is not read back: expected it; the files were changed meanwhile, "
            "convert again"
        )
    return place[name]


def _require_size(before: InstanceSample, after: InstanceSample | Sample) -> None:
    if before.image.shape != after.image.shape:
        raise PixelkinError(
            f"{before.name} is of another size than what was written: expected the same; the files "
            "were changed meanwhile, convert again"
        )


def _rle(sample: InstanceSample, index: int) -> bytes:
    return sample.instances[index].rle
