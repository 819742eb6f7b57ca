"""Results written out, for clips and for stills."""

from pixelkin.results.clips import (
    contact_sheet,
    cutout,
    read_coco_json,
    read_davis_png,
    write_coco_json,
    write_cutout_png,
    write_cutout_video,
    write_davis_png,
    write_overlay_video,
)
from pixelkin.results.instances import (
    CocoWriter,
    instance_overlay,
    labels_from_instances,
    write_instance_overlay,
    write_instance_png,
    write_labelme,
    write_yolo_labels,
    write_yolo_names,
)

__all__ = [
    "CocoWriter",
    "contact_sheet",
    "cutout",
    "instance_overlay",
    "labels_from_instances",
    "read_coco_json",
    "read_davis_png",
    "write_coco_json",
    "write_cutout_png",
    "write_cutout_video",
    "write_davis_png",
    "write_instance_overlay",
    "write_instance_png",
    "write_labelme",
    "write_overlay_video",
    "write_yolo_labels",
    "write_yolo_names",
]
