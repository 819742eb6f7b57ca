"""Instances of tagged photos: hand-made fields for the stage, a short run for its files."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rendered_photos
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from pixelkin.cli.label import Effort
from pixelkin.errors import PixelkinError
from pixelkin.grouping import instance_centroids
from pixelkin.masks import decode_rle, encode_rle
from pixelkin.models.irnet import PixelRelations
from pixelkin.pipelines.weak_labels import Extent, InstanceOptions, instances
from pixelkin.pipelines.weak_labels.workspace import ALL_STAGES, STAGES, Workspace, stages_from
from pixelkin.structures import Instances
from pixelkin.trainings.optimisation import Optimisation

OPTIONS = InstanceOptions(
    irnet=Optimisation(steps=2, batch_size=1, weights="none", backbone_rate=0.0, ema_decay=0.0)
)

# One photo with two discs of one class, as IRNet and the classifier would see it.

COPY_HW, PHOTO_HW = (96, 160), (192, 320)
DISCS_YX = ((48, 44), (48, 116))
RADIUS_PX = 32


def discs(size_hw: tuple[int, int]) -> np.ndarray:
    """bool (2, H, W) at any size of the photo."""
    scale = size_hw[0] / COPY_HW[0]
    y, x = (np.indices(size_hw) + 0.5) / scale
    return np.stack([(y - cy) ** 2 + (x - cx) ** 2 < RADIUS_PX**2 for cy, cx in DISCS_YX])


def true_relations() -> PixelRelations:
    """Boundaries around the discs, and the way from each of their cells to the middle."""
    inside = torch.from_numpy(discs((COPY_HW[0] // 4, COPY_HW[1] // 4)))
    grown = torch.nn.functional.max_pool2d(inside.float(), 3, 1, 1).amax(0) > 0
    logits = torch.where(grown & ~inside.any(0), 12.0, -12.0)
    y, x = torch.meshgrid(*map(torch.arange, logits.shape), indexing="ij")
    field = torch.zeros(2, *logits.shape)
    for disc, (cy, cx) in zip(inside, DISCS_YX, strict=True):
        field[0][disc] = (cy / 4 - 0.5 - y)[disc]
        field[1][disc] = (cx / 4 - 0.5 - x)[disc]
    return PixelRelations(logits[None], field[None])


def one_activation() -> torch.Tensor:
    """The classifier sees both discs, the second less, and a little beyond them."""
    y, x = torch.meshgrid(
        torch.arange(COPY_HW[0] // 8) * 8 + 4, torch.arange(COPY_HW[1] // 8) * 8 + 4, indexing="ij"
    )
    near = [
        share * torch.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 26.0**2)
        for share, (cy, cx) in zip((1.0, 0.7), DISCS_YX, strict=True)
    ]
    return torch.stack(near).amax(0)[None]


def found_in(monkeypatch, relations: PixelRelations, maps: torch.Tensor) -> Instances:
    monkeypatch.setattr(instances, "relations_of_image", lambda net, image: relations)
    return instances.instances_of_photo(
        None, np.zeros((*COPY_HW, 3), np.uint8), maps, (4, 6)[: len(maps)], size_hw=PHOTO_HW
    )


def test_two_discs_of_one_class_are_two_instances(monkeypatch):
    found = found_in(monkeypatch, true_relations(), one_activation())
    assert found.size_hw == PHOTO_HW
    assert found.categories == (4, 4)
    assert found.scores[0] > found.scores[1] > 0.25
    for rle, disc in zip(found.rles, discs(PHOTO_HW), strict=True):
        mask = decode_rle(rle, PHOTO_HW)
        assert (mask & disc).sum() / (mask | disc).sum() > 0.8


def test_two_classes_of_one_photo_keep_their_names(monkeypatch):
    both = one_activation()
    left = torch.arange(both.shape[2]) < 10
    maps = torch.cat([both * ~left, both * left])
    found = found_in(monkeypatch, true_relations(), maps)
    assert set(found.categories) == {4, 6}
    for rle, category in zip(found.rles, found.categories, strict=True):
        x = np.nonzero(decode_rle(rle, PHOTO_HW))[1].mean()
        assert (x < PHOTO_HW[1] / 2) == (category == 6)


def test_a_photo_without_a_class_has_no_instance(monkeypatch):
    assert found_in(monkeypatch, true_relations(), torch.zeros(0, 12, 20)) == Instances(PHOTO_HW)


def test_a_field_that_has_learnt_nothing_does_not_make_a_photo_take_long(monkeypatch):
    """Displacements of chance make hundreds of clusters; a bounded number of them walks."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 2, 24, 40, generator=generator) * 4
    field = noise[0]
    clusters = instance_centroids.cluster_centroids(
        instance_centroids.refine_centroids(field, iterations=2), field
    )
    assert len(clusters.unique()) > 64
    walking = []
    walk = instance_centroids.walk_to_boundaries

    def counted(maps, boundaries, **options):
        walking.append(len(maps))
        return walk(maps, boundaries, **options)

    monkeypatch.setattr(instance_centroids, "walk_to_boundaries", counted)
    grouping = dataclasses.replace(instances.GROUPING, iterations=2)
    assert grouping.most == 64
    grouping(torch.rand(2, 24, 40), torch.rand(24, 40), field, COPY_HW)
    assert walking == [64]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 300))
def test_objects_at_a_multiple_of_their_size_are_their_pixels_many_times(seed, times, count):
    """More than 254 objects too; those that overlap nothing keep every pixel."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, count + 1, (9, 40))
    masks = [labels == number for number in range(1, count + 1)]
    scores = np.sort(rng.random(count))[::-1]
    small = Instances(
        (9, 40), tuple(map(encode_rle, masks)), (1,) * count, tuple(map(float, scores))
    )
    big = instances.resized_instances(small, (9 * times, 40 * times), classes=(7, 5))
    there = [place for place, mask in enumerate(masks) if mask.any()]
    assert big.scores == tuple(small.scores[place] for place in there)
    assert set(big.categories) <= {5}
    for rle, place in zip(big.rles, there, strict=True):
        expected = np.kron(masks[place], np.ones((times, times), bool))
        assert np.array_equal(decode_rle(rle, big.size_hw), expected)


def test_an_object_that_vanishes_at_a_smaller_size_is_gone():
    dot = np.zeros((8, 8), bool)
    dot[1, 1] = True
    half = np.zeros((8, 8), bool)
    half[:, 4:] = True
    small = instances.resized_instances(
        Instances((8, 8), (encode_rle(dot), encode_rle(half)), (0, 0), (0.9, 0.8)),
        (2, 2),
        classes=(3,),
    )
    assert small.scores == (0.8,)
    assert decode_rle(small.rles[0], (2, 2)).tolist() == [[False, True]] * 2


# The files of a run


@pytest.fixture(scope="module")
def regions_done(tmp_path_factory) -> Path:
    """A run up to its confident regions: all that IRNet needs."""
    root = tmp_path_factory.mktemp("instances")
    rendered_photos.write_photos(root)
    rendered_photos.label(root, root / "out", extent=Extent(until="regions"))
    return root


@pytest.fixture(scope="module")
def done(regions_done) -> Path:
    """The same with instances."""
    for stage in ("irnet", "instances"):
        label(regions_done, extent=Extent(only=stage))
    return regions_done


def label(root: Path, **changes: object):
    options = rendered_photos.small_options(instances=OPTIONS)
    return rendered_photos.label(root, root / "out", **({"options": options} | changes))


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted((root / "out" / "instances").rglob("*.*"))
    }


def test_index_maps_and_coco_say_the_same_of_every_tagged_photo(done):
    photos = {*rendered_photos.TAGS, "black"}
    out = done / "out" / "instances"
    assert {str(path.relative_to(out))[:-4] for path in out.rglob("*.png")} == photos
    coco = COCO(out / "labels.json")
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == ["disc", "square"]
    images = {one["file_name"]: one for one in coco.dataset["images"]}
    assert {name[:-4] for name in images} == photos
    assert len(coco.anns) > 0
    for file, entry in images.items():
        assert (done / "photos" / file).is_file()
        with Image.open(out / f"{file[:-4]}.png") as picture:
            assert picture.mode == "I;16"
            labels = np.array(picture)
        assert labels.shape == (entry["height"], entry["width"])
        own = coco.loadAnns(coco.getAnnIds(imgIds=[entry["id"]]))
        assert set(np.unique(labels)) - {0} == set(range(1, len(own) + 1))
        tags = rendered_photos.TAGS.get(file[:-4], ("square",))
        for label_, one in enumerate(own, start=1):
            assert np.array_equal(coco.annToMask(one), labels == label_)
            assert coco.loadCats(one["category_id"])[0]["name"] in tags
            assert 0 < one["score"] <= 1


def test_a_stopped_stage_goes_on_where_it_was(done, monkeypatch):
    before = files(done)
    out = done / "out"
    (out / "9_instances" / "DONE").unlink()
    (out / "instances" / "labels.json").unlink()
    first, second, *_ = rendered_photos.TAGS
    for name in (first, second):
        (out / "instances" / f"{name}.png").unlink()
    # Killed between the two files of a photo.
    (out / "9_instances" / f"{first}.json").unlink()
    asked = []
    find = instances.instances_of_photo
    monkeypatch.setattr(
        instances, "instances_of_photo", lambda *a, **o: asked.append(a) or find(*a, **o)
    )
    label(done, extent=Extent(only="instances"))
    assert len(asked) == 2
    assert files(done) == before


def test_the_report_shows_instances_where_they_were_asked_for(done):
    page = (done / "out" / "report.html").read_text()
    assert "<th scope='col'>instances</th>" in page
    pictures = list((done / "out" / "report").glob("*_instances.jpg"))
    assert pictures
    assert all(f"report/{path.name}" in page for path in pictures)


def test_a_damaged_record_names_the_remedy(done):
    workspace = Workspace(done / "out")
    record = workspace.file("instances", "a0", ".json")
    kept = record.read_text()
    assert instances.read_objects(workspace, "a0").size_hw == rendered_photos.SIZE_HW
    try:
        for damage in (
            kept[:20],
            "[]",
            "{}",
            json.dumps({**json.loads(kept), "scores": [1, 2, 3]}),
        ):
            record.write_text(damage)
            with pytest.raises(PixelkinError, match=r"cannot be read .*; delete this file and"):
                instances.read_objects(workspace, "a0")
    finally:
        record.write_text(kept)


def test_a_lost_object_map_is_made_anew_alone(done):
    before = files(done)
    record = Workspace(done / "out").file("instances", "a1", ".json")
    times = [path.stat().st_mtime_ns for path in (record, record.with_name("a0.json"))]
    (done / "out" / "instances" / "a1.png").unlink()
    label(done, extent=Extent(only="instances"))
    assert files(done) == before
    changed = [path.stat().st_mtime_ns for path in (record, record.with_name("a0.json"))]
    assert changed[0] != times[0]
    assert changed[1] == times[1]


def test_a_damaged_network_names_its_stage(done, tmp_path):
    shutil.copytree(done / "out", tmp_path / "out")
    model = tmp_path / "out" / "8_irnet" / "model" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:99])
    options = rendered_photos.small_options(instances=OPTIONS)
    again = Extent(only="instances", again="instances")
    with pytest.raises(PixelkinError, match=r"model\.safetensors .*; give --again irnet to"):
        rendered_photos.label(done, tmp_path / "out", options=options, extent=again)


def test_a_run_without_instances_keeps_those_there_are_and_what_they_were_made_with(done):
    before = files(done)
    rendered_photos.label(done, done / "out", extent=Extent(until="regions"))
    assert files(done) == before
    longer = dataclasses.replace(OPTIONS, irnet=dataclasses.replace(OPTIONS.irnet, steps=9))
    with pytest.raises(PixelkinError, match=r"irnet\.steps 2, now it is 9.*--again irnet"):
        label(done, options=rendered_photos.small_options(instances=longer))


@pytest.mark.parametrize(
    ("extent", "message"),
    [
        (Extent(only="irnet"), "no stage 'irnet'.*give --instances"),
        (Extent(again="instances"), "no stage 'instances'.*give --instances"),
        (Extent(until="nonsense"), "no stage 'nonsense': expected photos.*predictions$"),
    ],
)
def test_stages_of_instances_must_be_asked_for(extent, message):
    with pytest.raises(PixelkinError, match=message):
        extent.stages()


def test_a_stage_of_instances_is_made_anew_only_where_it_runs():
    with pytest.raises(PixelkinError, match=r"--again irnet asks for .* --until walk does not run"):
        Extent(again="irnet", until="walk").stages(tuple(ALL_STAGES))
    assert Extent(again="irnet", only="irnet").stages(tuple(ALL_STAGES)) == ["irnet"]


def test_irnet_needs_the_regions(tmp_path):
    rendered_photos.write_photos(tmp_path)
    with pytest.raises(PixelkinError, match="the stage irnet needs the stage regions"):
        label(tmp_path, extent=Extent(only="irnet"))


def test_what_a_stage_being_made_anew_takes_with_it():
    assert stages_from("photos") == list(ALL_STAGES)
    assert stages_from("regions") == [*list(STAGES)[3:], "irnet", "instances"]
    assert stages_from("walk") == ["walk", "network", "predictions"]
    assert stages_from("irnet") == ["irnet", "instances"]


def test_the_command_line_asks_for_instances():
    assert Effort(weights="none").options().instances is None
    found = Effort(weights="none", irnet_steps=7).options(instances=True)
    assert found.instances is not None
    assert (found.instances.irnet.steps, found.instances.irnet.weights) == (7, "none")
    assert found.instances.irnet.backbone_rate > 0
    assert Effort(weights="shipped").options(instances=True).instances.irnet.backbone_rate == 0
    assert found.instances.grouping == instances.GROUPING
    assert found.stages() == tuple(ALL_STAGES)
    with pytest.raises(PixelkinError, match="--irnet-steps is 0: expected 1 or more"):
        Effort(weights="none", irnet_steps=0).options()
