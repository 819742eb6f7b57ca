import json

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pixelkin.data.clips.ccp import Ccp
from pixelkin.data.instances.coco_json import CocoJson
from pixelkin.data.tags.image_tags import Tags, resolve
from pixelkin.data.tags.sources import (
    read_ccp,
    read_coco_tags,
    read_folders,
    read_tags,
    read_voc_xml,
)
from pixelkin.errors import PixelkinError


def put(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_folder_names(tmp_path):
    for name in ("hat/a.jpg", "bag/a.jpg", "bag/in/b.PNG", "bag/notes.txt", "c.jpg", ".git/d.jpg"):
        put(tmp_path / name)
    (tmp_path / "belt").mkdir()
    tags, problems = resolve(read_tags(tmp_path))
    assert tags == Tags(("bag", "belt", "hat"), {"c": (), "a": (0, 2), "in/b": (0,)})
    assert [one.what for one in problems] == ["image c has no tag", "class 'belt' is on no image"]
    with pytest.raises(PixelkinError, match="holds no folder"):
        read_folders(tmp_path / "belt")


def coco(folder, **changes):
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 4, "width": 4},
            {"id": 2, "file_name": "b.png", "height": 4, "width": 4},
        ],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": c, "segmentation": [[0, 0, 2, 0, 2, 2]]}
            for n, c in enumerate((9, 4, 9))
        ],
        "categories": [
            {"id": 4, "name": "bag"},
            {"id": 9, "name": "hat"},
            {"id": 5, "name": "tie"},
        ],
    }
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(folder / name)
    return put(folder / "coco.json", json.dumps(content | changes))


def test_coco(tmp_path):
    path = coco(tmp_path)
    tags, _ = resolve(read_tags(path))
    assert tags == Tags(("bag", "hat", "tie"), {"a": (0, 1), "b": ()})
    # The loader of instances, which numbers classes by their ids, says the same.
    source = CocoJson(path)
    for index, name in enumerate(source.names):
        told = {tags.class_names[one] for one in tags.by_name[name]}
        assert told == {source.class_names[one.category] for one in source[index].instances}


def test_coco_faults_are_problems_and_the_rest_is_read(tmp_path):
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 4, "iscrowd": 7},
        {"id": 2, "image_id": 1, "category_id": 77},
        {"id": 3, "image_id": 50, "category_id": 4},
    ]
    tags, problems = resolve(read_coco_tags(coco(tmp_path, annotations=annotations)))
    assert tags.by_name == {"a": (0,), "b": ()}
    errors = [(one.what, one.fix) for one in problems if one.severity == "error"]
    assert errors == [
        ("annotation 1 has iscrowd 7: expected 0 or 1", "correct it"),
        (
            "annotation 2 has category id 77, which has no name: expected one that 'categories' "
            "lists",
            "add it there",
        ),
        ("annotation 3 is of image 50, which 'images' does not list", "correct or drop it"),
    ]


def test_panoptic_coco(tmp_path):
    def segments(*categories):
        return [{"id": n, "category_id": one, "area": 1} for n, one in enumerate(categories, 1)]

    categories = [
        {"id": one, "name": name, "isthing": thing}
        for one, name, thing in ((4, "bag", 1), (9, "sky", 0), (5, "tie", 1))
    ]
    annotations = [
        {"image_id": 1, "file_name": "a.png", "segments_info": segments(9, 4, 4)},
        {"image_id": 2, "file_name": "b.png", "segments_info": segments(77, 9)},
        {"image_id": 2, "file_name": "b.png", "segments_info": None},
    ]
    images = [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate("abc", 1)]
    path = coco(tmp_path, images=images, annotations=annotations, categories=categories)
    tags, problems = resolve(read_tags(path))
    assert tags == Tags(("bag", "sky", "tie"), {"a": (0, 1), "b": (1,)})
    assert resolve(read_tags(path), images=["a", "b", "c"])[0].by_name == {"a": (0, 1), "b": (1,)}
    where = "the annotation of image 2"
    assert [one.what for one in problems if one.severity == "error"] == [
        f"{where}: segment 1 has category id 77, which has no name",
        f"{where} occurs twice",
        f"{where} has no segments_info: expected a list",
    ]


def test_voc_xml(tmp_path):
    item = "<object><name>{}</name><difficult>1</difficult></object>"
    two = item.format("cat") + item.format(" dog ") + item.format("cat")
    put(tmp_path / "Annotations/1.xml", f"<annotation><filename>x</filename>{two}</annotation>")
    put(tmp_path / "Annotations/2.xml", "<annotation></annotation>")
    put(tmp_path / "Annotations/3.xml", "<annotation>")
    tags, problems = resolve(read_tags(tmp_path))
    assert tags == Tags(("cat", "dog"), {"1": (0, 1), "2": ()})
    assert problems[0].severity == "error"
    assert problems[0].where.endswith("3.xml")
    with pytest.raises(PixelkinError, match=r"no \.xml"):
        read_voc_xml(put(tmp_path / "none/a.txt").parent)


def test_a_stray_xml_beside_folders_per_tag_is_told_and_no_voc(tmp_path):
    for name in ("hat/a.jpg", "bag/b.jpg", "notes.xml"):
        put(tmp_path / name, "<annotation></annotation>")
    tags, problems = resolve(read_tags(tmp_path))
    assert tags == Tags(("bag", "hat"), {"a": (1,), "b": (0,)})
    assert [str(one) for one in problems] == [
        f"warning: {tmp_path / 'notes.xml'}: 1 XML beside 2 folders of images is not read: VOC has "
        "one for each image; drop it, or give a folder of XML alone"
    ]


@pytest.mark.parametrize(
    "images", [["1.jpg"], [f"images/{n}.jpg" for n in range(9)], ["train/1.jpg", "test/2.jpg"]]
)
def test_voc_xml_with_its_images_beside_it(tmp_path, images):
    for name in images:
        put(tmp_path / name)
    for name in ("1.xml", "2.xml"):
        put(tmp_path / name, "<annotation><object><name>cat</name></object></annotation>")
    assert resolve(read_tags(tmp_path))[0] == Tags(("cat",), {"1": (0,), "2": (0,)})


def test_unknown_kinds(tmp_path):
    with pytest.raises(PixelkinError, match="no tags at"):
        read_tags(tmp_path / "none.csv")
    with pytest.raises(PixelkinError, match="no known kind"):
        read_tags(put(tmp_path / "tags.xlsx"))


def test_ccp_files(tmp_path):
    names = np.array(["null", *(f"class {one}" for one in range(1, 59))], object)
    savemat(tmp_path / "label_list.mat", {"label_list": names})
    for folder in ("image-level", "pixel-level"):
        (tmp_path / "annotations" / folder).mkdir(parents=True)
    inner = tmp_path / "annotations"
    savemat(inner / "image-level/0005.mat", {"tags": np.array([[0, 2, 58, 2]], np.uint8)})
    savemat(inner / "image-level/0006.mat", {"tags": np.array([[0, 60]], np.uint8)})
    savemat(inner / "pixel-level/0001.mat", {"groundtruth": np.array([[0, 1], [0, 58]], np.uint8)})
    put(inner / "image-level/0007.mat", b"broken")
    tags, problems = resolve(read_tags(tmp_path))
    assert tags.by_name == {"0005": (1, 57), "0001": (0, 57)}
    assert tags.class_names[57] == "class 58"
    errors = [one for one in problems if one.severity == "error"]
    assert [one.where[-8:] for one in errors] == ["0006.mat", "0007.mat"]
    assert any("'class 2' twice" in one.what for one in problems)
    assert list(resolve(read_ccp(tmp_path, maps=False))[0].by_name) == ["0005"]


def test_ccp_data(shared_data):
    root = shared_data / "ccp"
    given, _ = resolve(read_ccp(root, maps=False))
    both, problems = resolve(read_ccp(root), images=[p.stem for p in (root / "photos").iterdir()])
    assert len(given.by_name) == 223
    assert len(both.by_name) == 707
    counts = dict(zip(both.class_names, both.counts(), strict=True))
    assert counts["skin"] == 707
    assert counts["hair"] == 218 + 458
    # Enough classes for a classifier: carried by 10 to 80 % of the photos.
    useful = [name for name, count in counts.items() if 0.1 <= count / 707 <= 0.8]
    assert len(useful) >= 10
    assert not [one for one in problems if one.severity == "error"]
    assert len([one for one in problems if "twice" in one.what]) >= 2
    # The maps' tags are those that the loader's samples have.
    source = Ccp(root)
    for index in range(0, len(source), 120):
        sample = source[index]
        assert sample.labels.max() == len(both.by_name[sample.name])
