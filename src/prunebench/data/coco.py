"""COCO and other data sets of its format: images with boxes, described by JSON files.

Lin et al., Microsoft COCO: Common Objects in Context, arXiv 1405.0312. `coco` is COCO's detection
task of 2017, `coco/annotations/instances_{train,val}2017.json` with the images in `coco/train2017`
and `coco/val2017` below the data folder; as in the literature, the test images are those of
val2017.

`coco_<name>` is the user's own folder `<name>` with `annotations/instances_train*.json`, and
`instances_test*.json` or `instances_val*.json` or both. Without a test file, the validation images
are the test images. The images lie in a folder of the file's own ending (`train2017`), in
`images/<ending>`, in `images`, or in the folder itself. `<name>/dataset.yaml` sets the size of
inputs, the normalization, and what becomes of odd boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeGuard

from pydantic import Field, model_validator

from prunebench.core.errors import ConfigError, DataError, cannot, shown
from prunebench.core.files import parsed_json
from prunebench.data import normalization
from prunebench.data.conversion_progress import counted
from prunebench.data.folder import Colors, PositiveColors
from prunebench.data.info import DatasetInfo
from prunebench.data.named_files import path_below
from prunebench.experiments.recipe import MOST_PIXELS
from prunebench.experiments.settings import Settings
from prunebench.experiments.validation import validate
from prunebench.experiments.yaml_file import read_yaml

if TYPE_CHECKING:
    from prunebench.data.boxed_source import Box, BoxedFile, BoxedSplits

PREFIX = "coco_"
# Longest and shorter side of an input: the setting of Mask R-CNN's and MMDetection's recipes.
RESIZE = (1333, 800)
LARGEST_SIDE = 100_000  # pixels
LARGEST_NUMBER = 1e12  # of a coordinate or an area
LARGEST_OWN = 640  # pixels; images of one size up to this side are not resized by default
CLASSES = 80
OddBoxes = Literal["clip", "skip"]
Side = Annotated[int, Field(ge=32, le=MOST_PIXELS)]


class BoxedDescription(Settings):
    """The keys of dataset.yaml in a folder of COCO's format."""

    title: str | None = Field(None, description="Title in tables (default: the folder's name).")
    resize: tuple[Side, Side] | None = Field(
        None,
        description=(
            "Largest longer and shorter side of an input, in pixels; images are scaled as a whole "
            "(default: no resize if all images have the same size of at most 640 pixels, else "
            "[1333, 800])."
        ),
    )
    mean: Colors = Field(  # type: ignore[assignment]
        normalization.IMAGENET.mean,
        description="Mean of each color, of values in [0, 1] (default: ImageNet's).",
    )
    std: PositiveColors = Field(  # type: ignore[assignment]
        normalization.IMAGENET.std,
        description="Standard deviation of each color, of values in [0, 1] (default: ImageNet's).",
    )
    odd_boxes: OddBoxes = Field(
        "clip",
        description=(
            "Whether boxes that reach beyond their image are clipped to it or skipped. Boxes "
            "without an area inside the image are always skipped, and both are counted."
        ),
    )
    mirrors: bool = Field(
        True, description="Whether a mirrored image is still valid, so that `flip` may be used."
    )

    @model_validator(mode="after")
    def _longest_first(self) -> BoxedDescription:
        if self.resize is not None and self.resize[0] < self.resize[1]:
            raise ValueError(
                f"resize must be the longer and the shorter side, not {list(self.resize)}"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """The content of one annotation file, checked.

    Attributes
    ----------
    images
        The images with their boxes in the file's order; paths are relative to the images' folder.
    classes
        Names of the categories in the order of their ids.
    clipped, skipped
        Number of boxes that were clipped to their image, and that were skipped.
    """

    images: tuple[BoxedFile, ...]
    classes: tuple[str, ...]
    clipped: int
    skipped: int


def read_json(path: Path) -> Any:
    """Read a JSON file; raise DataError that names it."""
    try:
        return parsed_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {cannot('be read', error)}") from None
    except ValueError as error:
        raise DataError(f"{path}: not a JSON file ({error})") from None


def parse(content: Any, place: str, odd_boxes: OddBoxes = "clip") -> Annotations:
    """Check the content of an annotation file; `place` names it in errors.

    Raises DataError that names the id and the value of an image, annotation or category that is
    unknown, given twice, incomplete or impossible.
    """
    from prunebench.data.boxed_source import BoxedFile

    for part in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise DataError(f"{place}: not in COCO's format: the list {part!r} is missing")
    names = _by_id(content["categories"], place, "category")
    images = _by_id(content["images"], place, "image")
    categories = sorted(names)
    classes = tuple(_text(names[key], "name", f"{place}: category {key}") for key in categories)
    number = {key: label for label, key in enumerate(categories)}
    found = {
        key: (_file_name(image, place, key), _size(image, place, key))
        for key, image in images.items()
    }
    boxes: dict[int, list[Box]] = {key: [] for key in images}
    counts: Counter[str] = Counter()
    for key, annotation in _by_id(content["annotations"], place, "annotation").items():
        where = f"{place}: annotation {key}"
        image = _reference(annotation, "image", images, where)
        category = _reference(annotation, "category", names, where)
        box, kind = _box(annotation, found[image][1], number[category], where, odd_boxes)
        counts[kind] += 1
        if box is not None:
            boxes[image].append(box)
    return Annotations(
        images=tuple(
            BoxedFile(path, size, tuple(boxes[key])) for key, (path, size) in found.items()
        ),
        classes=classes,
        clipped=counts["clipped"],
        skipped=counts["skipped"],
    )


def _by_id(entries: list[Any], place: str, what: str) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for position, entry in enumerate(entries):
        key = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(key, int) or isinstance(key, bool):
            raise DataError(f"{place}: {what} number {position + 1} has the id {shown(key)}")
        if key in found:
            raise DataError(f"{place}: two entries have the {what} id {key}")
        found[key] = entry
    if not found and what != "annotation":
        raise DataError(f"{place}: holds no {what}")
    return found


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: {key} is {shown(value)}, expected text")
    return value


def _file_name(image: Mapping[str, Any], place: str, key: int) -> Path:
    where = f"{place}: image {key}"
    return path_below(_text(image, "file_name", where), f"{where}: file_name")


def _size(image: Mapping[str, Any], place: str, key: int) -> tuple[int, int]:
    h, w = image.get("height"), image.get("width")
    if not _is_side(h) or not _is_side(w):
        raise DataError(
            f"{place}: image {key}: width is {shown(w)} and height {shown(h)}, expected pixels, "
            f"1 to {LARGEST_SIDE}"
        )
    return h, w


def _is_side(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and 1 <= value <= LARGEST_SIDE


def _reference(
    annotation: Mapping[str, Any], what: str, known: Mapping[int, Any], where: str
) -> int:
    key = annotation.get(f"{what}_id")
    if not isinstance(key, int) or key not in known:
        raise DataError(f"{where}: {what}_id is {shown(key)}, which no {what} has")
    return key


def _box(
    annotation: Mapping[str, Any],
    size: tuple[int, int],
    label: int,
    where: str,
    odd_boxes: OddBoxes,
) -> tuple[Box | None, str]:
    """Return the box of an annotation, None if it is skipped, and what became of it."""
    from prunebench.data.boxed_source import Box

    bbox = annotation.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise DataError(
            f"{where}: bbox is {shown(bbox)}, expected 4 numbers: x, y, width and height"
        )
    crowd = annotation.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise DataError(f"{where}: iscrowd is {shown(crowd)}, expected 0 or 1")
    x, y, w, h = map(float, bbox)
    area = annotation.get("area", w * h)
    if not _is_number(area):
        raise DataError(f"{where}: area is {shown(area)}, expected a number")
    corners = x, y, x + w, y + h
    clipped = max(x, 0.0), max(y, 0.0), min(x + w, float(size[1])), min(y + h, float(size[0]))
    has_area = clipped[2] > clipped[0] and clipped[3] > clipped[1]
    if not has_area or (clipped != corners and odd_boxes == "skip"):
        return None, "skipped"
    if clipped == corners:
        return Box(corners, label, float(area), bool(crowd)), "whole"
    inside = (clipped[2] - clipped[0]) * (clipped[3] - clipped[1])
    return Box(clipped, label, min(float(area), inside), bool(crowd)), "clipped"


def _is_number(value: Any) -> bool:
    # The bounds exclude infinity, NaN and whole numbers that no float can hold.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -LARGEST_NUMBER <= value <= LARGEST_NUMBER


def read_annotations(path: Path, root: Path, odd_boxes: OddBoxes = "clip") -> Annotations:
    """Read an annotation file below `root`, and find its images.

    Raises DataError that names the file and the first image that is missing.
    """
    found = parse(read_json(path), str(path), odd_boxes)
    return with_paths(found, image_folders(path, root), str(path))


def image_folders(path: Path, root: Path) -> list[Path]:
    """Return the folders that may hold the images of an annotation file.

    >>> [str(f) for f in image_folders(Path("c/annotations/instances_train2017.json"), Path("c"))]
    ['c/train2017', 'c/images/train2017', 'c/images', 'c']
    """
    ending = path.stem.removeprefix("instances_")
    return [root / ending, root / "images" / ending, root / "images", root]


def with_paths(found: Annotations, folders: Iterable[Path], place: str) -> Annotations:
    """Return annotations with the images' paths in the first folder that holds the first image."""
    candidates, first = list(folders), found.images[0].path
    folder = next((f for f in candidates if (f / first).is_file()), None)
    if folder is None:
        searched = ", ".join(map(str, candidates))
        raise DataError(f"{place}: the image {first} is in none of the folders {searched}")
    images = tuple(replace(image, path=folder / image.path) for image in found.images)
    for image in counted(images, "find"):
        if not image.path.is_file():
            raise DataError(f"{place}: the image {image.path} is missing")
    return replace(found, images=images)


def splits_of(
    parts: Mapping[str, Annotations],
    root: Path,
    description: BoxedDescription,
    place: str,
) -> BoxedSplits:
    """Return the splits of annotation files, by "train", "val" and "test".

    Without "test", the images of "val" are the test images. Raises DataError if the categories
    differ or the training images have no boxes.
    """
    from prunebench.data.boxed_source import boxed_splits, common_size

    train, val, test = parts["train"], parts.get("val"), parts.get("test")
    if test is None:
        val, test = None, val
    if test is None:
        raise DataError(f"{place}: has neither test nor validation images")
    for split, own in parts.items():
        if own.classes != train.classes:
            odd = min({*own.classes} ^ {*train.classes}, default=own.classes[0])
            raise DataError(
                f"{place}: the categories of {split} and train differ, as in {shown(odd)}"
            )
    for split, own in (("train", train), ("test", test)):
        if not any(image.boxes for image in own.images):
            raise DataError(f"{place}: the images of {split} have no boxes")
    images = [image for part in parts.values() for image in part.images]
    return boxed_splits(
        root,
        classes=train.classes,
        train=train.images,
        val=val.images if val else None,
        test=test.images,
        resize=description.resize or default_resize(common_size(images)),
        described={
            "mean": list(description.mean),
            "std": list(description.std),
            "mirrors": description.mirrors,
            **({"title": description.title} if description.title else {}),
        },
        odd_boxes={
            "clipped": sum(part.clipped for part in parts.values()),
            "skipped": sum(part.skipped for part in parts.values()),
        },
    )


def default_resize(size: tuple[int, int] | None) -> tuple[int, int]:
    """Return the longest and shorter side for images of this height and width; None: they differ.

    >>> default_resize((480, 640)), default_resize((960, 1280)), default_resize(None)
    ((640, 480), (1333, 800), (1333, 800))
    """
    if size is None or max(size) > LARGEST_OWN:
        return RESIZE
    return max(size), min(size)


def annotation_files(folder: Path) -> dict[str, Path]:
    """Return the annotation files of a folder by split; raise DataError if one is ambiguous."""
    found = {}
    for split in ("train", "val", "test"):
        paths = sorted(folder.glob(f"instances_{split}*.json"))
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            raise DataError(f"{folder}: holds {names}; expected one file of {split}")
        if paths:
            found[split] = paths[0]
    if "train" not in found:
        raise DataError(f"{folder}: holds no instances_train*.json")
    return found


def read_folder(root: Path, description: BoxedDescription | None = None) -> BoxedSplits:
    """Read a folder of COCO's format; `description` replaces its dataset.yaml.

    Raises DataError that names a missing or wrong file, or a wrong entry in it.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    file = root / "dataset.yaml"
    if description is None:
        content = read_yaml(file) or {} if file.exists() else {}
        description = validate(BoxedDescription, content, str(file))
    parts = {
        split: read_annotations(path, root, description.odd_boxes)
        for split, path in annotation_files(root / "annotations").items()
    }
    return splits_of(parts, root, description, str(root))


def read_user_folder(folder: str, data_dir: Path) -> BoxedSplits:
    """Read the user's folder below `data_dir`."""
    return read_folder(data_dir / folder)


def coco_info(name: str) -> DatasetInfo:
    """Describe `coco_<name>` before its folder is read; until then it has no classes."""
    folder = name.removeprefix(PREFIX)
    if not folder:
        raise ConfigError(f"data set {name!r}: the name of a folder in data_dir is missing")
    return DatasetInfo(
        name=name,
        title=folder,
        num_classes=0,
        shape=(3, 800, 1280),
        mean=normalization.IMAGENET.mean,
        std=normalization.IMAGENET.std,
        validation=0.1,
        source=f"the folder {folder}, in COCO's format",
        split="its test images, or its validation images without any",
        read=partial(read_user_folder, folder),
        places=(folder,),
        in_files=True,
        resize=RESIZE,
        task="detection",
    )


def read(data_dir: Path) -> BoxedSplits:
    """Read COCO 2017; raise DataError for a missing file or a number of categories not 80.

    The 1021 training images without boxes are left out, as in MMDetection.
    """
    root = data_dir / "coco"
    folder = root / "annotations"
    files = {split: folder / f"instances_{split}2017.json" for split in ("train", "val")}
    parts = {split: read_annotations(path, root) for split, path in files.items()}
    if (found := len(parts["train"].classes)) != CLASSES:
        raise DataError(f"{files['train']}: holds {found} categories, expected {CLASSES}")
    with_boxes = tuple(image for image in parts["train"].images if image.boxes)
    parts["train"] = replace(parts["train"], images=with_boxes)
    return splits_of(parts, root, BoxedDescription(resize=RESIZE), str(root))


COCO = DatasetInfo(
    name="coco",
    title="COCO 2017",
    num_classes=CLASSES,
    shape=(3, 800, 1280),
    mean=normalization.IMAGENET.mean,
    std=normalization.IMAGENET.std,
    validation=0.02,  # 2346 of 117 266 images
    source="the annotations and images of COCO's detection task of 2017",
    split="the official 5000 images of val2017; the official test images have no annotations",
    read=read,
    in_files=True,
    resize=RESIZE,
    task="detection",
    counts=(117_266, 5_000),
    places=("coco",),
)
