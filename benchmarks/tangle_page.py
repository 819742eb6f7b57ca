"""The section of docs/model_zoo.md on tangled objects, from the result of benchmarks/tangle.py.

python benchmarks/tangle_page.py
"""

from __future__ import annotations

import json
from typing import Any

from instance_pages import table, write_section
from tangle import RESULT, ROOT

DOCUMENT = ROOT / "docs" / "model_zoo.md"

NAMES = {
    "seeds": "seeds (Fathi et al. 2017)",
    "discriminative": "discriminative (De Brabandere et al. 2017)",
}


# Of the picture that lies there: what tangle.py draws now has no grey object, and its own title.
CAPTION = (
    "In the picture, dark grey is what fits no object; the lighter grey is the colour of one "
    "object, in the truth too. mask_rcnn is Mask R-CNN."
)


def markdown(report: dict[str, Any]) -> str:
    """Tables of a result."""
    scenes, trained = report["scenes"], report["trained"]
    kinds = [kind for kind in scenes["objects"] if kind != "all"]
    options = next(iter(trained.values()))["training"]
    rows = []
    for method, values in trained.items():
        if method == "mask_rcnn":
            rows += [(f"Mask R-CNN, {name}", v) for name, v in values["suppression"].items()]
        else:
            rows.append((NAMES.get(method, method), values))
    lost = report["oracle"]["lost"]
    lines = [
        "`python benchmarks/tangle.py --out RUNS --steps 800`, "
        "[result](../benchmarks/results/tangle.json)",
        "",
        f"{scenes['objects']['all']} thin, crossing, ring-shaped and interlocked objects in "
        f"{scenes['held_out']['length']} rendered scenes that no training saw, whose boxes nearly "
        f"coincide. Trainings: one backbone, {options['steps']} steps of {options['batch_size']} "
        f"windows of {options['crop_px']} px, seed {options['seed']}. Found: share of objects that "
        "some mask overlaps by half or more.",
        "",
        *table(
            ["", "AP", "AP50", "found", *(f"{kind}, found" for kind in kinds)],
            [
                [name, f"{values['AP']:.3f}", f"{values['AP50']:.3f}",
                 *(f"{values['recall'][kind]:.0%}" for kind in ("all", *kinds))]
                for name, values in rows
            ],
        ),
        *box_note(trained),
        "",
        "What suppression by boxes alone loses, with true boxes in place of a network's:",
        "",
        *table(
            ["", "lost", *kinds],
            [
                [name, *(f"{values[kind]:.0%}" for kind in ("all", *kinds))]
                for name, values in lost.items()
            ],
        ),
        "",
        CAPTION,
        "",
        "![Scenes, truth and what each method found](images/tangle.png)",
    ]  # fmt: skip
    return "\n".join(lines)


def box_note(trained: dict[str, Any]) -> list[str]:
    """How much of what Mask R-CNN misses is its suppression's doing."""
    if "mask_rcnn" not in trained:
        return []
    found = [one["recall"]["all"] for one in trained["mask_rcnn"]["suppression"].values()]
    return [
        "",
        f"Suppression is not all: without any, Mask R-CNN finds {max(found):.0%} instead of "
        f"{found[0]:.0%}. Two objects in one box are one question to its mask head, and steps that "
        "are enough for the embedding are few for a network of boxes, proposals and masks.",
    ]


def main() -> None:
    report = json.loads(RESULT.read_text("utf-8"))
    text = markdown(report)
    write_section(DOCUMENT, "tangle", text, heading="### Tangle: objects whose boxes coincide")
    print(text)


if __name__ == "__main__":
    main()
