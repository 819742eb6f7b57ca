"""What was lost in writing a data set in another format: found by reading it back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pixelkin.results.conversion.targets import Kind

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Changed:
    """An object, or of class maps a class of a still, whose mask is another now.

    Attributes:
        still: its name in the data set that was read.
        instance: index of the object in its still; of class maps the class.
        class_name: its class.
        pixels: it had.
        missing: of these that it has not any more.
        added: that it did not have.
        iou: of both masks.
    """

    still: str
    instance: int
    class_name: str
    pixels: int
    missing: int
    added: int
    iou: float


@dataclass(frozen=True, slots=True)
class Vanished:
    """An object that is not there any more.

    Attributes:
        still: its name in the data set that was read.
        instance: index of the object in its still; of class maps the class.
        class_name: its class.
        pixels: it had.
        why: the reason.
    """

    still: str
    instance: int
    class_name: str
    pixels: int
    why: str


@dataclass(frozen=True, slots=True)
class UnknownChanged:
    """Unknown pixels of a still that are others now.

    Attributes:
        still: its name in the data set that was read.
        pixels: there were; those of crowds too, where the format makes them unknown.
        missing: of these that are known now.
        added: that were known.
        became: "unknown", or "crowd" where they are a crowd now.
    """

    still: str
    pixels: int
    missing: int
    added: int
    became: str


@dataclass
class Report:
    """What a conversion did.

    Attributes:
        kind: what was written.
        source: FROM as it was given.
        target: TO as it was given.
        cannot_hold: what the format has no place for, whether or not it was there.
        notes: what is another now without loss, such as names.
        stills: written.
        instances: read; of class maps classes of stills.
        changed: with another mask.
        vanished: not there any more.
        crowds: crowds that are none any more; `why` says what they became.
        unknown: stills whose unknown pixels are others.
        classes: (class, class now) → objects.
        classes_lost: names that are not in the list of classes any more.
        images: names of stills whose image has other pixels.
        left_out: what of the source was not an instance, such as stuff.
    """

    kind: Kind
    source: str
    target: str
    cannot_hold: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    stills: int = 0
    instances: int = 0
    changed: list[Changed] = field(default_factory=list)
    vanished: list[Vanished] = field(default_factory=list)
    crowds: list[Vanished] = field(default_factory=list)
    unknown: list[UnknownChanged] = field(default_factory=list)
    classes: Counter[tuple[str, str]] = field(default_factory=Counter)
    classes_lost: tuple[str, ...] = ()
    images: list[str] = field(default_factory=list)
    left_out: tuple[str, ...] = ()

    @property
    def lossless(self) -> bool:
        """Whether nothing was lost."""
        lost = (
            self.changed, self.vanished, self.crowds, self.unknown, self.classes,
            self.classes_lost, self.images, self.left_out,
        )  # fmt: skip
        return not any(lost)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "from": self.source,
            "to": self.target,
            "kind": self.kind,
            "lossless": self.lossless,
            "stills": self.stills,
            "instances": self.instances,
            "losses": {
                "changed": [asdict(one) for one in self.changed],
                "vanished": [asdict(one) for one in self.vanished],
                "crowds": [asdict(one) for one in self.crowds],
                "unknown": [asdict(one) for one in self.unknown],
                "classes": [
                    {"class_name": old, "became": new, "instances": count}
                    for (old, new), count in sorted(self.classes.items())
                ],
                "classes_lost": list(self.classes_lost),
                "images": self.images,
                "left_out": list(self.left_out),
            },
            "format_cannot_hold": list(self.cannot_hold),
            "notes": self.notes,
        }

    def as_text(self) -> str:
        """What a person reads: one line where nothing was lost."""
        noun = "object" if self.kind == "instances" else "class region"
        read = f"{count(self.stills, 'still')}, {count(self.instances, noun)}"
        if self.lossless:
            return "\n".join([f"nothing lost in {read}", *self.notes])
        lines = [f"LOST in {read}:"]
        lines += self._objects(noun)
        for one in self.unknown[:_SHOWN]:
            became = "a crowd" if one.became == "crowd" else "kept as unknown"
            lines.append(
                f"  {one.still}: of {count(one.pixels, 'unknown pixel')} {one.missing:,} are known "
                f"now, {one.added:,} more are unknown; they are {became}"
            )
        lines += _more(self.unknown)
        becoming: dict[str, list[str]] = {}
        for old, new in sorted(self.classes):
            becoming.setdefault(new, []).append(old)
        for new, old_names in becoming.items():
            number = sum(self.classes[old, new] for old in old_names)
            lines.append(f"  {count(number, noun)} now called {new}: {_listed(old_names)} before")
        if self.classes_lost:
            lines.append(f"  classes that are not listed any more: {_listed(self.classes_lost)}")
        if self.images:
            lines.append(f"  {count(len(self.images), 'image')} with other pixels: compressed anew")
        lines += [f"  {one}" for one in self.left_out]
        lines += ["the format cannot hold:", *(f"  {one}" for one in self.cannot_hold)]
        return "\n".join([*lines, *self.notes])

    def _objects(self, noun: str) -> list[str]:
        lines = []
        if self.changed:
            worst = sorted(self.changed, key=lambda one: one.iou)
            lines.append(f"  {count(len(worst), noun)} with another mask:")
            lines += [
                f"    {one.still}, {one.class_name} {one.instance}: IoU {one.iou:.3f}, of "
                f"{count(one.pixels, 'pixel')} {one.missing:,} lost, {one.added:,} more"
                for one in worst[:_SHOWN]
            ]
            lines += _more(worst)
        for title, losses in (("gone", self.vanished), ("that were crowds", self.crowds)):
            if losses:
                lines.append(f"  {count(len(losses), noun)} {title}:")
                lines += [
                    f"    {one.still}, {one.class_name} {one.instance}, "
                    f"{count(one.pixels, 'pixel')}: {one.why}"
                    for one in losses[:_SHOWN]
                ]
                lines += _more(losses)
        return lines


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    left = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {left} more" if left > 0 else "")


def _more(items: list[Any]) -> list[str]:
    left = len(items) - _SHOWN
    return [f"    … and {left:,} more in the report"] if left > 0 else []
