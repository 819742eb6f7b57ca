import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.data.tags.files import read_csv, read_json_lines, write_csv
from pixelkin.data.tags.image_tags import Tags, composed, image_key, resolve
from pixelkin.errors import PixelkinError

WANTED = [("a.jpg", ("dress", "t shirt")), ("b.jpg", ("hat",)), ("c.jpg", ())]


def rows_of(folder, text, *, name="tags.csv"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    listing = read_json_lines(path) if name.endswith("jsonl") else read_csv(path)
    assert not listing.problems
    return [(row.image, row.tags) for row in listing.rows]


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg,dress,t shirt\nb.jpg,hat\nc.jpg\n",
        "image,tags\na.jpg,dress;t shirt\nb.jpg,hat\nc.jpg,\n",
        "image,tags\r\na.jpg,dress|t shirt\r\nb.jpg,hat\r\nc.jpg,\r\n",
        'File Name,Labels\na.jpg,"dress, t shirt"\nb.jpg,hat\nc.jpg,'.replace("File Name", "path"),
        "image\ttags\na.jpg\tdress\tt shirt\nb.jpg\that\n\nc.jpg\t\n",
        "Image;Tag\na.jpg;dress,t shirt\nb.jpg;hat\nc.jpg;\n",
        "a.jpg,dress;t shirt\nb.jpg,hat\nc.jpg,\n",
        "a.jpg\tdress,t shirt\nb.jpg\that\nc.jpg\n",
        "a.jpg;dress,t shirt\nb.jpg;hat\nc.jpg\n",
        "\ufeffimage,dress,t shirt,hat\na.jpg,1,1,0\nb.jpg,0,,1\nc.jpg,0,0,0\n",
        "image,dress,t shirt,hat\na.jpg,True,yes,false\nb.jpg,0.0,,1.0\nc.jpg,no,0,0\n",
        "split,tags,image\ntrain,dress;t shirt,a.jpg\ntrain,hat,b.jpg\nval,,c.jpg\n",
        "image,tags,by\na.jpg,dress;t shirt,Ann\nb.jpg,hat,Bob\nc.jpg,,Ann\n",
        "image_name,label\na.jpg,dress;t shirt\nb.jpg,hat\nc.jpg,\n",
        "photo,tag1,tag2\na.jpg,dress,t shirt\nb.jpg,hat,\nc.jpg\n",
        "filename,labels\na.jpg,dress;t shirt\nb.jpg,hat\nc.jpg\n",
        "by;Image Path;Label 1;Label 2\n1;a.jpg;dress;t shirt\n2;b.jpg;hat\n3;c.jpg\n",
        "ImageID,FileName,class_id,class_name\n7,a.jpg,1;2,dress;t shirt\n8,b.jpg,3,hat\n9,c.jpg\n",
        "path,what it shows\na.jpg,dress,t shirt\nb.jpg,hat\nc.jpg\n",
        "img\na.jpg,dress,t shirt\nb.jpg,hat\nc.jpg\n",
    ],
)
def test_layouts(tmp_path, text):
    assert rows_of(tmp_path, text) == WANTED


def test_what_separates_cells_is_told_by_the_first_line_that_has_it(tmp_path):
    many = ("sea", "sand", "sky")
    for text in ("a.jpg\tsea,sand,sky", "a.jpg;sea,sand,sky", "a.jpg,sea;sand;sky"):
        assert rows_of(tmp_path, text) == [("a.jpg", many)]
    # A name may hold a separator: before a tab, or in quotes.
    assert rows_of(tmp_path, "1, 2;3.jpg\tsea") == [("1, 2;3.jpg", ("sea",))]
    assert rows_of(tmp_path, '"1, 2.jpg";sea,sand') == [("1, 2.jpg", ("sea", "sand"))]
    # A line without a tag tells nothing.
    assert rows_of(tmp_path, "a.jpg\nb.jpg;sea,sand") == [("a.jpg", ()), ("b.jpg", many[:2])]
    assert rows_of(tmp_path, "1,2.jpg\n3.jpg\tsea", name="t.TSV") == [
        ("1,2.jpg", ()),
        ("3.jpg", ("sea",)),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "photo,class1\nb,class1;class2\n",  # "class1" is a tag of the next line
        "photo,sea\nb,sea\n",
        "photo,sea\nb,sand\n",
        "image_1,label\nb,sand\n",
        "photo.jpg,label\nb.jpg,sand\n",
        "name,sea\nb.jpg,sand\nc,sand\n",
        "photo,sea\n",
    ],
)
def test_a_photo_may_be_called_as_a_header_is(tmp_path, text):
    rows = rows_of(tmp_path, text)
    assert len(rows) == text.count("\n")
    first, tag = text.split("\n")[0].split(",")
    assert rows[0] == (first, (tag,))


def test_a_header_above_files_may_name_what_is_also_a_tag(tmp_path):
    text = "image,label\na.jpg,label;box\n"
    assert rows_of(tmp_path, text) == [("a.jpg", ("label", "box"))]


def test_one_row_per_pair(tmp_path):
    text = "filename,label\na.jpg,dress\na.jpg,hat\nb.jpg,hat\n"
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    tags, _ = resolve(read_csv(path))
    assert tags == Tags(("dress", "hat"), {"a": (0, 1), "b": (1,)})


def test_json_lines(tmp_path):
    text = (
        '{"image": "a.jpg", "tags": ["dress", " t shirt "], "by": 3}\n\n'
        '{"image_id": 3, "file_name": "b.jpg", "labels": "hat"}\r\n'
        '{"imagePath": "c.jpg", "tags": []}'
    )
    assert rows_of(tmp_path, text, name="tags.jsonl") == WANTED


def test_lines_that_cannot_be_read_are_told_and_the_others_kept(tmp_path):
    path = tmp_path / "tags.jsonl"
    path.write_text('{"image": "a", "tags": ["x"]}\n{"image": "b"\n[1]\n{"image": 3, "tags": []}\n')
    listing = read_json_lines(path)
    assert [row.image for row in listing.rows] == ["a"]
    assert [one.where for one in listing.problems] == [f"{path}:{line}" for line in (2, 3, 4)]

    path = tmp_path / "tags.csv"
    path.write_text("image,dress,hat\na.jpg,1,0\nb.jpg,1,2\nc.jpg,1,0,1\n,1,1\n\nd.jpg,0,1\n")
    listing = read_csv(path)
    assert [(row.image, row.where) for row in listing.rows] == [
        ("a.jpg", f"{path}:2"),
        ("d.jpg", f"{path}:7"),
    ]
    assert [one.where for one in listing.problems] == [f"{path}:{line}" for line in (3, 4, 5)]

    path.write_text("image,tags\n,hat\n")
    assert [one.where for one in read_csv(path).problems] == [f"{path}:2"]


def test_line_numbers_count_lines_within_quotes(tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text('image,tags,notes\na,hat,"one\ntwo"\nc,bag,\n')
    listing = read_csv(path)
    assert [row.where for row in listing.rows] == [f"{path}:2", f"{path}:4"]
    assert not listing.problems


@pytest.mark.parametrize(
    ("text", "rows", "cell"),
    [
        ('a,hat\nb,"bag\nc,hat\nd,"bag"\ne,hat\n', ["a", "e"], "bag"),
        ('a,hat\n"b,bag\nc,hat\n"d",bag\ne,hat\n', ["a", "e"], "b,bag"),
        ('_,bag,hat\n"b,1,0\nc,0,1\nd",1,0\ne,0,1\nf,0,1\n', ["e", "f"], "b,1,0"),
    ],
)
def test_a_quote_that_closes_lines_later_is_told_in_one_line(tmp_path, text, rows, cell):
    path = tmp_path / "tags.csv"
    path.write_text(text)
    listing = read_csv(path)
    assert [row.image for row in listing.rows] == rows
    assert [str(one) for one in listing.problems] == [
        f"error: {path}:2: a quote that opens in this line closes in a later one: {cell!r} …; "
        "close it or drop it; the lines up to there are left out"
    ]


@pytest.mark.parametrize("line", ['b,"bag', '"b,bag', 'b,bag,"a note'])
def test_a_quote_that_nothing_closes_is_named_with_its_line(tmp_path, line):
    path = tmp_path / "tags.csv"
    path.write_text(f"image,tags,notes\na,hat\n{line}\nc,hat\nd,hat\n")
    with pytest.raises(PixelkinError, match=r"^line 3 of \S+ opens a quote .*; close it .*$"):
        read_csv(path)
    # In the last line nothing is lost.
    path.write_text('a,hat\nb,"bag\n')
    assert [row.tags for row in read_csv(path).rows] == [("hat",), ("bag",)]


def test_one_hot_keeps_classes_without_an_image(tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text("image,zebra,ant\na.jpg,1,0\n")
    assert read_csv(path).class_names == ("zebra", "ant")
    path.write_text("image,ant,ant\na.jpg,1,1\n")
    assert "'ant' is double" in read_csv(path).problems[0].what


@pytest.mark.parametrize("read", [read_csv, read_json_lines])
def test_files_that_are_none(tmp_path, read):
    path = tmp_path / "tags"
    with pytest.raises(PixelkinError, match="no tags file"):
        read(path)
    path.write_text(" \n")
    with pytest.raises(PixelkinError, match="empty"):
        read(path)
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(PixelkinError, match="cannot read"):
        read(path)


WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8).map(
    lambda one: composed(one).strip()
)
NAMES = WORDS.filter(lambda one: one and image_key(one) == one)
# A class that is called as a cell of 1 or 0 is would make its header a line of data.
CLASSES = WORDS.filter(
    lambda one: (
        one
        and one.casefold() not in {"1", "1.0", "true", "yes", "x", "-1"}
        and one.casefold() not in {"0", "0.0", "false", "no"}
    )
)


@st.composite
def tag_sets(draw):
    class_names = draw(st.lists(CLASSES, min_size=1, max_size=5, unique_by=str.casefold))
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    indices = st.sets(st.integers(0, len(class_names) - 1)).map(lambda one: tuple(sorted(one)))
    return Tags(tuple(class_names), {name: draw(indices) for name in names})


@pytest.mark.parametrize("read", [read_csv, read_json_lines])
def test_another_encoding_is_told_with_its_line(tmp_path, read):
    path = tmp_path / "tags.csv"
    path.write_bytes("a.jpg,coat\nb.jpg,béret\n".encode("latin-1"))
    with pytest.raises(PixelkinError, match=r"line 2 is no UTF-8; save it as UTF-8"):
        read(path)


@settings(max_examples=60, deadline=None)
@given(tags=tag_sets())
def test_written_tags_are_read_back(tmp_path_factory, tags):
    path = tmp_path_factory.mktemp("tags") / "tags.csv"
    write_csv(path, tags)
    listing = read_csv(path)
    assert not listing.problems
    assert resolve(listing)[0] == tags


@settings(max_examples=30, deadline=None)
@given(tags=tag_sets())
def test_json_lines_are_read_back(tmp_path_factory, tags):
    path = tmp_path_factory.mktemp("tags") / "tags.jsonl"
    lines = [
        json.dumps(
            {"image": name, "tags": [tags.class_names[one] for one in indices]}, ensure_ascii=False
        )
        for name, indices in tags.by_name.items()
    ]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    listing = read_json_lines(path)
    assert not listing.problems
    assert resolve(listing, class_names=tags.class_names)[0] == tags
