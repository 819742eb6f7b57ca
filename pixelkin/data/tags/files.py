"""Image tags in CSV and JSON-lines files."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pixelkin.data.reading import IMAGE_SUFFIXES, decoded
from pixelkin.data.tags.image_tags import Listing, TagProblem, TagRow, Tags
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_write

_IMAGE_WORDS = frozenset(
    {"image", "images", "img", "photo", "photos", "picture", "pictures"}
    | {"file", "filename", "filepath", "path", "name"}
)
_TAG_WORDS = frozenset(
    {"tag", "tags", "label", "labels", "class", "classes", "category", "categories"}
)
_BESIDE_WORDS = frozenset({"id", "ids", "list", "names"})
_YES = frozenset({"1", "1.0", "true", "yes", "x"})
_NO = frozenset({"0", "0.0", "false", "no", "", "-1"})
_SEPARATORS = re.compile(r"[;|,\t]")
_BREAK = re.compile(r"[\r\n]")
_QUOTED = re.compile(r'"[^"]*"')


def read_csv(path: str | os.PathLike[str]) -> Listing:
    """Tags from a CSV: comma, semicolon or tab between cells, UTF-8, quotes as spreadsheets write.

    What separates the cells is told by the first line that holds one of them: a tab wherever there
    is one, and always in a `.tsv`; else whichever comes first, since a list comes after its image.

    Three layouts, told apart by their content:

    - an image and its tags: in further cells, or in one cell with `;`, `|` or `,` between them;
    - an image and one tag, the image once per tag;
    - a header of classes, and 1 or 0 (true, false, yes, no, x, nothing) in their columns.

    The first line is a header in the third layout; where it calls its columns image (photo,
    file name, path …) and tags (label, class name, tag1 and tag2 …), in any order and beside
    others; or where it begins with a word for image and all other lines with a file of one. So a
    photo may be called photo: no header's tag is one of a line below it, unless these begin with
    files.

    Raises:
        PixelkinError: the file is missing, empty or no text, or a quote that is not closed holds
            the rest of it.
    """
    source = Path(path)
    text = _text(source)
    delimiter = "\t" if source.suffix.lower() == ".tsv" else _delimiter(text)
    records = list(_records(text, delimiter, source))
    if not records:
        raise PixelkinError(f"{source} is empty: expected an image and its tags in each line")
    if _is_one_hot(records):
        return _one_hot(source, records[0][1], records[1:])
    columns = _columns(records)
    listing = Listing(str(source), [])
    for line, cells in records[columns.header_lines :]:
        where = f"{source}:{line}"
        image, tag_cells = columns.of(cells)
        if not image:
            listing.problems.append(
                TagProblem(where, "the line names no image", "write its file name or drop the line")
            )
            continue
        if torn := [cell for cell in (image, *tag_cells) if _BREAK.search(cell)]:
            listing.problems.append(_torn(torn[0], where))
            continue
        tags = [tag for cell in tag_cells for tag in _split(cell)]
        listing.rows.append(TagRow(image, tuple(tags), where))
    return listing


class _Columns(NamedTuple):
    """Where the cells of a line stand.

    Attributes:
        header_lines: 0 or 1.
        image: its column.
        tags: their columns.
        beyond: from here on, there are only tags.
    """

    header_lines: int
    image: int
    tags: tuple[int, ...]
    beyond: int | None

    def of(self, cells: Sequence[str]) -> tuple[str, list[str]]:
        """The image of a line, empty where it has none, and the cells of its tags."""
        tags = [cells[one] for one in self.tags if one < len(cells)]
        more = [] if self.beyond is None else cells[self.beyond :]
        return cells[self.image] if self.image < len(cells) else "", [*tags, *more]


def _columns(records: Sequence[tuple[int, list[str]]]) -> _Columns:
    """What the first line says if it is a header; else the image first, then its tags."""
    header, lines = records[0][1], [cells for _, cells in records[1:]]
    # An id tells less than a name beside it.
    order = sorted(range(len(header)), key=lambda column: _is_id(header[column]))
    images = [column for column in order if _calls_image(header[column])]
    labels = [column for column in order if _calls_tags(header[column])]
    if images and labels:
        tags = sorted(one for one in labels if _words(header[one]) == _words(header[labels[0]]))
        # Tags may run on beyond the last column that the header names.
        beyond = len(header) if tags[-1] == len(header) - 1 else None
        named = _Columns(1, images[0], tuple(tags), beyond)
        below = {tag for cells in lines for cell in named.of(cells)[1] for tag in _split(cell)}
        if _are_files(named, lines) or below.isdisjoint(header[one] for one in tags):
            return named
    plain = _Columns(0, 0, (), 1)
    return plain._replace(header_lines=int(0 in images and _are_files(plain, lines)))


def _are_files(columns: _Columns, lines: Sequence[list[str]]) -> bool:
    """Whether the images of all lines are written with suffix."""
    images = [image for image, _ in map(columns.of, lines) if image]
    return bool(images) and all(
        os.path.splitext(image)[1].lower() in IMAGE_SUFFIXES for image in images
    )


def _calls_image(heading: str) -> bool:
    """Whether it names the column of images: `image`, `FileName`, `img_path`; no `image_1`."""
    words = _words(heading)
    fits = words <= _IMAGE_WORDS | _BESIDE_WORDS and bool(words & _IMAGE_WORDS)
    return fits and not re.search(r"\d", heading)


def _calls_tags(heading: str) -> bool:
    """Whether it names a column of tags: `labels`, `class_name`, `image label`, `tag1`."""
    words = _words(heading)
    return words <= _TAG_WORDS | _IMAGE_WORDS | _BESIDE_WORDS and bool(words & _TAG_WORDS)


def _is_id(heading: str) -> bool:
    return not _words(heading).isdisjoint(("id", "ids"))


def _words(heading: str) -> frozenset[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", heading)
    return frozenset(word.casefold() for word in re.findall(r"[^\W\d_]+", apart))


def _text(source: Path) -> str:
    def decode() -> str:
        try:
            return source.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise PixelkinError(
                f"cannot read the tags file {source}: line {line} is no UTF-8; save it as UTF-8"
            ) from error

    return decoded(source, decode, kind="tags file")


def _delimiter(text: str) -> str:
    for line in text.splitlines():
        found: list[str] = re.findall(r"[,;\t]", _QUOTED.sub("", line))
        if found:
            return "\t" if "\t" in found else found[0]
    return ","


def _records(text: str, delimiter: str, source: Path) -> Iterator[tuple[int, list[str]]]:
    """Number of the first line and stripped cells of every record that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    line, last = 1, (1, "")
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                last = line, stripped[-1]
                yield line, stripped
            line = reader.line_num + 1
    except csv.Error as error:
        raise PixelkinError(f"line {line} of {source} is no CSV: {error}; mend it") from error
    # The reader takes the end of the file for the end of the quote.
    if _BREAK.search(last[1]) and not text.rstrip().endswith('"'):
        raise PixelkinError(
            f"line {last[0]} of {source} opens a quote that holds all lines after it: expected one "
            "at the end of the cell, too; close it or drop it"
        )


def _torn(cell: str, where: str) -> TagProblem:
    """A cell of several lines: no name is one, but what lies between two quotes not closed is."""
    return TagProblem(
        where,
        f"a quote that opens in this line closes in a later one: {cell.splitlines()[0]!r} …",
        "close it or drop it; the lines up to there are left out",
    )


def _split(cell: str) -> list[str]:
    return [part.strip() for part in _SEPARATORS.split(cell) if part.strip()]


def _is_one_hot(records: Sequence[tuple[int, list[str]]]) -> bool:
    """Whether most cells below a first line of names are yes or no, and none of the names is."""
    header = records[0][1][1:]
    if len(records) < 2 or not header or any(one.casefold() in _YES | _NO for one in header):
        return False
    cells = [cell.casefold() for _, row in records[1:] for cell in row[1:]]
    # An empty cell belongs to any layout.
    sure = sum(cell in _YES | _NO for cell in cells if cell)
    return sure > sum(map(bool, cells)) / 2


def _one_hot(source: Path, header: list[str], body: list[tuple[int, list[str]]]) -> Listing:
    names = tuple(header[1:])
    listing = Listing(str(source), [], tuple(dict.fromkeys(filter(None, names))))
    doubled = [name for name, count in Counter(names).items() if count > 1 or not name]
    listing.problems.extend(
        TagProblem(f"{source}:1", f"column {name!r} is double or has no name", "rename the column")
        for name in doubled
    )
    for line, cells in body:
        where = f"{source}:{line}"
        if torn := [cell for cell in cells if _BREAK.search(cell)]:
            listing.problems.append(_torn(torn[0], where))
            continue
        strange = [cell for cell in cells[1:] if cell.casefold() not in _YES | _NO]
        if not cells[0] or len(cells) > len(header) or strange:
            found = strange[0] if strange else f"{len(cells)} cells, image {cells[0]!r}"
            listing.problems.append(
                TagProblem(
                    where,
                    f"the line holds {found}",
                    f"write an image and {len(names)} cells of 1 or 0",
                )
            )
            continue
        pairs = zip(names, cells[1:], strict=False)
        carried = [name for name, cell in pairs if name and cell.casefold() in _YES]
        listing.rows.append(TagRow(cells[0], tuple(dict.fromkeys(carried)), where))
    return listing


def read_json_lines(path: str | os.PathLike[str]) -> Listing:
    """Tags from JSON lines: `{"image": "a.jpg", "tags": ["dress", "bag"]}`, one a line.

    The keys may have the other names that `read_csv` knows; tags may also be one string with
    separators.

    Raises:
        PixelkinError: the file is missing, empty or no text.
    """
    source = Path(path)
    text = _text(source)
    if not text.strip():
        raise PixelkinError(f"{source} is empty: expected a JSON object in each line")
    listing = Listing(str(source), [])
    # splitlines would also break at U+2028, which JSON allows inside strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        found = _json_row(line)
        where = f"{source}:{number}"
        if found is None:
            listing.problems.append(
                TagProblem(
                    where,
                    "the line is no object with an image and a list of tags",
                    'write {"image": "a.jpg", "tags": ["dress", "bag"]}',
                )
            )
        else:
            listing.rows.append(TagRow(*found, where))
    return listing


def _json_row(line: str) -> tuple[str, tuple[str, ...]] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    keys = sorted(record, key=_is_id)
    image = next((record[key] for key in keys if _calls_image(key)), None)
    tags = next((record[key] for key in keys if _calls_tags(key)), None)
    if isinstance(tags, str):
        tags = _split(tags)
    if not (isinstance(image, str) and image.strip() and isinstance(tags, list)):
        return None
    if not all(isinstance(tag, str) for tag in tags):
        return None
    return image.strip(), tuple(tag.strip() for tag in tags if tag.strip())


def write_csv(path: str | os.PathLike[str], tags: Tags) -> None:
    """Write `tags` with a column of 1 and 0 per class, which `read_csv` reads back.

    Of the layouts only this one keeps the order of the classes, classes without an image, images
    without a tag, and names that hold separators.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["image", *tags.class_names])
    for name, indices in tags.by_name.items():
        carried = set(indices)
        writer.writerow([name, *(int(i in carried) for i in range(len(tags.class_names)))])
    atomic_write(path, buffer.getvalue())
