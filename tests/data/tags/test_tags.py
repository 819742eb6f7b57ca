import unicodedata

import pytest

from pixelkin.data.tags.image_tags import Listing, TagRow, Tags, resolve


def listing(*rows, class_names=None):
    return Listing(
        "t.csv",
        [TagRow(image, tuple(tags), f"t.csv:{line}") for line, (image, tags) in enumerate(rows, 1)],
        class_names,
    )


def told(problems):
    return [(one.severity, one.where, one.what, one.fix) for one in problems]


def test_every_fault_is_told_at_once():
    given = listing(
        ("a.jpg", ["dress", "bag", "dress"]),
        ("b.jpg", ["drses", "Bag"]),
        ("zz.jpg", ["bag"]),
        ("c.jpg", []),
        ("d.jpg", ["dress", "bag", "hat", "scarf"]),
        ("e.jpg", ["qqqq"]),
        ("f.jpg", ["qqqq"]),
    )
    tags, problems = resolve(
        given,
        class_names=["dress", "bag", "hat", "scarf"],
        images=["a", "b", "c", "d", "e", "f", "g"],
    )
    assert tags == Tags(
        ("dress", "bag", "hat", "scarf"),
        {"a": (0, 1), "b": (1,), "c": (), "d": (0, 1, 2, 3), "e": (), "f": ()},
    )
    assert told(problems) == [
        ("error", "t.csv:2", "tag 'drses' is unknown", "did you mean 'dress'?"),
        (
            "error",
            "t.csv:6",
            "tag 'qqqq' is unknown (and 1 more)",
            "correct it, or add it to the classes",
        ),
        ("error", "t.csv:3", "no image zz exists", "add the image or drop the line"),
        ("warning", "t.csv:1", "image a.jpg has tag 'dress' twice", "drop one"),
        ("warning", "t.csv", "image g is not listed", "tag it or remove the image"),
        ("warning", "t.csv:4", "image c has no tag", "tag it or drop it"),
        ("warning", "t.csv:5", "image d has every tag", "keep those that it shows"),
        ("warning", "t.csv:6", "image e has no tag", "tag it or drop it"),
        ("warning", "t.csv:7", "image f has no tag", "tag it or drop it"),
    ]


def test_classes_on_no_image_and_on_every_image():
    given = listing(("a", ["skin"]), ("b", ["skin", "hat"]), class_names=("skin", "hat", "bag"))
    _, problems = resolve(given)
    assert [one.what for one in problems] == [
        "class 'skin' is on every image",
        "class 'bag' is on no image",
    ]


def test_rows_of_one_image_are_joined():
    tags, problems = resolve(listing(("a.jpg", ["hat"]), ("b.jpg", ["bag"]), ("./a.JPG", ["bag"])))
    assert tags == Tags(("bag", "hat"), {"a": (0, 1), "b": (0,)})
    assert [one.what for one in problems] == ["class 'bag' is on every image"]


def test_one_tag_twice_in_two_rows_is_told():
    _, problems = resolve(listing(("a", ["hat"]), ("b", ["bag"]), ("a", ["hat"])))
    assert told(problems)[0][:3] == ("warning", "t.csv:3", "image a has tag 'hat' twice")


def test_known_classes_that_differ_in_case_alone_stay_apart():
    tags, _ = resolve(
        listing(("a", ["Polish", "polish", "POLISH"])), class_names=["Polish", "polish"]
    )
    assert tags.by_name == {"a": (0, 1)}


def test_without_known_classes_a_rare_neighbour_of_a_frequent_tag_is_told():
    rows = [(f"{number}", ["dress", "bag"]) for number in range(5)]
    _, problems = resolve(listing(*rows, ("5", ["drses", "bag"]), ("6", ["hat"])))
    assert [one.what for one in problems] == ["tag 'drses' is on 1 image, 'dress' on 5"]


def test_without_known_classes_spellings_are_told_in_small_sets_too():
    rows = [("a", ["coat"]), ("b", ["coat"]), ("c", ["caot"]), ("d", ["Coat"]), ("e", ["dress"]),
            ("f", ["shirts"]), ("g", ["shirts"]), ("h", ["skirts"]), ("i", ["skirts"])]  # fmt: skip
    _, problems = resolve(listing(*rows))
    assert [one.what for one in problems] == [
        "tag 'caot' is on 1 image, 'coat' on 2",
        "tag 'Coat' is on 1 image, 'coat' on 2",
    ]
    # Of two spellings as frequent, the later.
    _, problems = resolve(listing(("a", ["Hat"]), ("b", ["hat"])))
    assert [one.what for one in problems] == ["tag 'hat' is on 1 image, 'Hat' on 1"]


def test_images_match_by_their_last_part_where_that_is_unambiguous():
    given = listing(
        ("D:\\old\\a.jpg", ["hat"]), ("x/b.jpg", ["hat"]), ("b.jpg", ["bag"]), ("c", ["bag"])
    )
    tags, problems = resolve(given, images=["new/a", "x/b", "y/b", "c.v2"])
    assert tags.by_name == {"new/a": (1,), "x/b": (1,)}
    assert [(one.what, one.severity) for one in problems][:2] == [
        ("image b may be x/b or y/b", "error"),
        ("no image c exists", "error"),
    ]


def test_an_image_that_may_be_several_is_told_with_all_of_them():
    for many, said in (
        (3, "0/a, 1/a or 2/a"),
        (4, "0/a, 1/a or 2 more"),
        (9, "0/a, 1/a or 7 more"),
    ):
        given = listing(("a.jpg", ["hat"]), ("b.jpg", ["bag"]))
        tags, problems = resolve(given, images=["b", *(f"{one}/a" for one in range(many))])
        assert tags.by_name == {"b": (0,)}
        assert told(problems)[0] == (
            "error", "t.csv:1", f"image a may be {said}", "write it with its folder"
        )  # fmt: skip


def test_a_name_that_ends_like_a_suffix_is_not_stripped_twice():
    # The files a.jpg.png and b.png.
    given = listing(("a.jpg.png", ["hat"]), ("b.png", ["bag"]))
    tags, problems = resolve(given, images=["a.jpg", "b"])
    assert tags.by_name == {"a.jpg": (1,), "b": (0,)}
    assert not problems
    # Where there is no image a, "a.jpg" can only be that one: VOC's a.jpg.xml is called so.
    given = listing(("a.jpg", ["hat"]), ("a.jpg.png", ["bag"]), ("in/b.jpg", ["hat"]))
    assert resolve(given, images=["a.jpg", "b"])[0].by_name == {"a.jpg": (0, 1), "b": (1,)}
    tags, _ = resolve(given, images=["a.jpg", "a"])
    assert tags.by_name == {"a.jpg": (0,), "a": (1,)}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_in_their_letter_and_beside_it_are_the_same(form):
    # As macOS names a file, and as a table has it; and the other way round.
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    cafe, beret = (unicodedata.normalize(form, one) for one in ("café", "béret"))
    written = listing(
        *((unicodedata.normalize(other, f"{one}.jpg"), [beret]) for one in (cafe, f"in/{cafe} 2")),
        ("b.jpg", [unicodedata.normalize(other, beret)]), ("c.jpg", ["hat"]),
    )  # fmt: skip
    for names in (None, [beret, "hat"], [unicodedata.normalize(other, beret), "hat"]):
        images = [cafe, f"{cafe} 2", "b", "c"]
        tags, problems = resolve(written, class_names=names, images=images)
        assert set(tags.class_names) == {"hat", unicodedata.normalize("NFC", beret)}
        assert list(tags.by_name) == images
        assert len(set(tags.by_name.values())) == 2
        assert not problems
    named = listing(("b", [cafe]), ("c", ["hat"]), class_names=(cafe, "hat"))
    assert resolve(named)[0].class_names == ("caf\u00e9", "hat")


def test_one_tag_twice_by_two_spellings_of_an_image_is_told():
    given = listing(("old/a.jpg", ["hat"]), ("a.jpg", ["hat"]), ("b", ["bag"]))
    _, problems = resolve(given, images=["a", "b"])
    assert told(problems) == [("warning", "t.csv:2", "image a.jpg has tag 'hat' twice", "drop one")]


def test_near_image_is_named():
    _, problems = resolve(listing(("photo_01.jpg", ["hat"])), images=["photo_10", "qq"])
    assert problems[0].fix in ("did you mean photo_10?",)


def test_order_is_that_of_the_images():
    given = listing(("b", ["hat"]), ("a", ["bag"]))
    assert list(resolve(given, images=["a", "b"])[0].by_name) == ["a", "b"]
    assert list(resolve(given)[0].by_name) == ["b", "a"]


def test_counts():
    tags = Tags(("a", "b", "c"), {"x": (0, 2), "y": (2,), "z": ()})
    assert tags.counts() == (1, 0, 2)


def test_a_problem_reads_as_one_line():
    _, problems = resolve(listing(("a", ["hta"])), class_names=["hat"])
    assert str(problems[0]) == "error: t.csv:1: tag 'hta' is unknown; did you mean 'hat'?"
    _, problems = resolve(listing(("a\nb.jpg", ["hat"])), images=["c"])
    assert str(problems[0]).startswith("error: t.csv:1: no image a b exists; ")
