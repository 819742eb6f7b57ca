"""Image tags: which classes an image shows, without where.

The readers of `files` and `sources` give a `Listing`, what was written; `resolve` makes
`Tags` of it and names every fault at once.
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pixelkin.data.reading import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Tags:
    """The classes of each image.

    Attributes:
        class_names: unique.
        by_name: name of an image (no suffix) → ascending indices into `class_names`; empty for an
            image that is known to show none.
    """

    class_names: tuple[str, ...]
    by_name: dict[str, tuple[int, ...]]

    def counts(self) -> tuple[int, ...]:
        """How many images carry each class."""
        found = Counter(index for indices in self.by_name.values() for index in indices)
        return tuple(found[index] for index in range(len(self.class_names)))


@dataclass(frozen=True)
class TagProblem:
    """One fault of a tags file.

    Attributes:
        where: the file, with the line where it has lines.
        what: the fault, with what was found.
        fix: what to do.
        severity: an error means that something written was left out; a warning is legal, but
            seldom meant, or cannot be learnt from.
    """

    where: str
    what: str
    fix: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        text = f"{self.severity}: {self.where}: {self.what}; {self.fix}"
        # Names may hold line breaks, and a list of problems has one a line.
        return " ".join(text.splitlines())


@dataclass(frozen=True)
class TagRow:
    """What one place says of one image: its name and tags as written."""

    image: str
    tags: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class Listing:
    """What a tags file says, not yet compared with classes and images.

    Attributes:
        where: the file or folder.
        rows: in the order of the file; an image may have several.
        class_names: where the encoding names its classes, else None.
        problems: lines that could not be read.
    """

    where: str
    rows: list[TagRow]
    class_names: tuple[str, ...] | None = None
    problems: list[TagProblem] = field(default_factory=list)


def resolve(
    listing: Listing,
    *,
    class_names: Sequence[str] | None = None,
    images: Collection[str] | None = None,
) -> tuple[Tags, list[TagProblem]]:
    """The tags of a listing, and everything that is wrong with it.

    Args:
        listing: what a reader found.
        class_names: the known classes; None takes those that the encoding names, else the tags
            found, sorted. Tags are compared exactly first, then without regard to case.
            An é of one character and one of two (macOS's file names) are the same, in images too;
            the result has tags with that of one (`composed`), and images as `images` has them.
        images: names of the images that exist, as `Tags` has them, without suffix (`image_key`):
            one that still ends like a suffix was `a.jpg.png`. None for unknown. A name in the
            listing is compared without suffix first, then as it is written, then without its
            folders where that is unambiguous.

    Returns:
        The tags, in the order of `images` where given, and the problems, errors first. What an
        error names is left out: unknown tags and images that do not exist. Images that exist and
        are not listed are left out, too; listed ones without a tag are kept, empty.
    """
    listing = _all_composed(listing)
    problems = list(listing.problems)
    known = class_names if class_names is not None else listing.class_names
    if known is None:
        known = sorted({tag for row in listing.rows for tag in row.tags})
        problems += _likely_misspelt(listing)
    names = tuple(dict.fromkeys(map(composed, known)))
    existing = None if images is None else _Existing(images)
    found, strange = _collect(listing, names, problems, existing)
    problems += _unknown_tags(strange, names)
    by_name = {name: tuple(sorted(indices)) for name, (indices, _) in found.items()}
    if existing is not None:
        problems += _unmatched(found, existing, where=listing.where)
        by_name = {name: by_name[name] for name in existing.names if name in by_name}
    tags = Tags(names, by_name)
    problems += _suspicious(tags, {name: where for name, (_, where) in found.items()}, listing)
    return tags, sorted(problems, key=lambda problem: problem.severity)


def composed(text: str) -> str:
    """`text` with accents in their letters (NFC), as most programs write it; see `resolve`."""
    return unicodedata.normalize("NFC", text)


def _all_composed(listing: Listing) -> Listing:
    rows = [
        replace(row, image=composed(row.image), tags=tuple(map(composed, row.tags)))
        for row in listing.rows
    ]
    return replace(listing, rows=rows)


_Found = dict[str, tuple[set[int], str]]
"""Name of an image → its classes, and where it stands first."""


class _Existing:
    """The images that exist, to be found by what a tags file calls them."""

    def __init__(self, images: Collection[str]) -> None:
        self.names = tuple(dict.fromkeys(images))
        self._known = frozenset(self.names)
        self._by_composed = {composed(name): name for name in self.names}
        self._by_last_part: dict[str, list[str]] = {}
        for name in self.names:
            self._by_last_part.setdefault(_last_part(composed(name)), []).append(name)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def find(self, written: str) -> list[str]:
        """The image that a composed name means; all that it may mean; or none."""
        # `a.jpg` is the image a as a rule, and the image `a.jpg` where its file is `a.jpg.png`.
        tried = (image_key(written), _with_slashes(written))
        for name in tried:
            if name in self._by_composed:
                return [self._by_composed[name]]
        for name in tried:
            if same := self._by_last_part.get(_last_part(name)):
                return same
        return []


def _last_part(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _collect(
    listing: Listing,
    names: Sequence[str],
    problems: list[TagProblem],
    existing: _Existing | None,
) -> tuple[_Found, dict[str, list[str]]]:
    """Classes of each listed image, and where unknown tags stand; duplicates go to `problems`."""
    exact = {name: index for index, name in enumerate(names)}
    loose = {name.casefold(): index for index, name in reversed(list(enumerate(names)))}
    found: _Found = {}
    strange: dict[str, list[str]] = {}
    for row in listing.rows:
        meant = [] if existing is None else existing.find(row.image)
        key = meant[0] if len(meant) == 1 else image_key(row.image)
        carried, _ = found.setdefault(key, (set(), row.where))
        for tag in row.tags:
            index = exact.get(tag, loose.get(tag.casefold()))
            if index is None:
                strange.setdefault(tag, []).append(row.where)
            elif index in carried:
                problems.append(
                    TagProblem(
                        row.where,
                        f"image {row.image} has tag {tag!r} twice",
                        "drop one",
                        "warning",
                    )
                )
            else:
                carried.add(index)
    return found, strange


def image_key(written: str) -> str:
    """The name of an image as written in a tags file: forward slashes, no image suffix."""
    path = _with_slashes(written)
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in IMAGE_SUFFIXES else path


def _with_slashes(written: str) -> str:
    return written.replace("\\", "/").removeprefix("./")


def _unknown_tags(strange: Mapping[str, list[str]], names: Sequence[str]) -> Iterator[TagProblem]:
    for tag, places in strange.items():
        near = _nearest(tag, names)
        more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
        fix = f"did you mean {near!r}?" if near else "correct it, or add it to the classes"
        yield TagProblem(places[0], f"tag {tag!r} is unknown{more}", fix)


def _nearest(word: str, known: Collection[str]) -> str | None:
    by_fold = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[near[0]] if near else None


def _likely_misspelt(listing: Listing) -> Iterator[TagProblem]:
    """Without known classes: tags that look like a more frequent one.

    Where they differ in more than case, at least five times as frequent, or on two images against
    one: a class on one image alone is hardly one.
    """
    first: dict[str, str] = {}
    for row in listing.rows:
        for tag in row.tags:
            first.setdefault(tag, row.where)
    counts = Counter(tag for row in listing.rows for tag in set(row.tags))
    order = {tag: place for place, tag in enumerate(sorted(counts, key=lambda tag: -counts[tag]))}
    for tag, count in counts.items():
        same = [
            one for one in counts if one.casefold() == tag.casefold() and order[one] < order[tag]
        ]
        frequent = [one for one, many in counts.items() if many >= (5 if count > 1 else 2) * count]
        # Two letters that changed places are little alike to difflib in a short word.
        turned = [one for one in frequent if sorted(one) == sorted(tag)]
        near = same[:1] or turned[:1] or difflib.get_close_matches(tag, frequent, n=1, cutoff=0.8)
        if near:
            images = "1 image" if count == 1 else f"{count} images"
            yield TagProblem(
                first[tag],
                f"tag {tag!r} is on {images}, {near[0]!r} on {counts[near[0]]}",
                "correct it where it is misspelt, or give the class names",
                "warning",
            )


def _unmatched(found: _Found, existing: _Existing, *, where: str) -> Iterator[TagProblem]:
    """Listed images that do not exist or may be any of several, and existing ones not listed."""
    names = existing.names
    for name, (_, place) in found.items():
        if name in existing:
            continue
        if meant := existing.find(name):
            what = f"image {name} may be {_any_of(meant)}"
            yield TagProblem(place, what, "write it with its folder")
            continue
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6) if len(names) < 5000 else []
        fix = f"did you mean {near[0]}?" if near else "add the image or drop the line"
        yield TagProblem(place, f"no image {name} exists", fix)
    for name in names:
        if name not in found:
            what, fix = f"image {name} is not listed", "tag it or remove the image"
            yield TagProblem(where, what, fix, "warning")


def _any_of(names: Sequence[str], *, most: int = 3) -> str:
    last = names[-1] if len(names) <= most else f"{len(names) - most + 1} more"
    return f"{', '.join(names[: min(len(names), most) - 1])} or {last}"


def _suspicious(tags: Tags, places: Mapping[str, str], listing: Listing) -> Iterator[TagProblem]:
    """What is legal, but teaches a classifier nothing."""
    every = len(tags.class_names)
    for name, indices in tags.by_name.items():
        where = places.get(name, listing.where)
        if not indices:
            yield TagProblem(where, f"image {name} has no tag", "tag it or drop it", "warning")
        elif len(indices) == every > 2:
            yield TagProblem(
                where, f"image {name} has every tag", "keep those that it shows", "warning"
            )
    for class_name, count in zip(tags.class_names, tags.counts(), strict=True):
        if count == 0:
            what, fix = "is on no image", "tag images with it or drop the class"
        elif count == len(tags.by_name) > 1:
            what, fix = "is on every image", "add images without it or drop the class"
        else:
            continue
        yield TagProblem(listing.where, f"class {class_name!r} {what}", fix, "warning")
