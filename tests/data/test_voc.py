from __future__ import annotations

from pathlib import Path

import pytest

from prunebench.core.errors import DataError
from prunebench.data.voc import convert

XML = """<annotation>
  <filename>{name}.jpg</filename>
  <size><width>{w}</width><height>{h}</height><depth>3</depth></size>
  {objects}
</annotation>
"""
OBJECT = """<object>
  <name>{name}</name><difficult>0</difficult>
  <bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>
</object>
"""
Box = tuple[str, int, int, int, int]


def write_voc(root: Path, split: str, images: dict[str, tuple[int, int, list[Box]]]) -> Path:
    """Write the list and the XML files of a split: width, height and boxes by image."""
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{k}\n" for k in images))
    for name, (w, h, boxes) in images.items():
        objects = "".join(
            OBJECT.format(name=kind, x1=x1, y1=y1, x2=x2, y2=y2) for kind, x1, y1, x2, y2 in boxes
        )
        path = root / "Annotations" / f"{name}.xml"
        path.write_text(XML.format(name=name, w=w, h=h, objects=objects))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images, the second of unknown size; not in the order of their names."""
    images = {
        "b": (40, 20, [("dog", 4, 2, 14, 8), ("cat", 0, 0, 40, 20)]),
        "a": (0, 0, [("cat", 5, 5, 5, 5)]),
    }
    return write_voc(tmp_path, "train", images)


def test_boxes_are_corner_and_size_in_the_order_of_lists_and_files(root: Path) -> None:
    content = convert(root, "train", ("cat", "dog"), (48, 64))
    assert content["images"] == [
        {"id": 1, "file_name": "b.jpg", "width": 40, "height": 20},
        {"id": 2, "file_name": "a.jpg", "width": 64, "height": 48},
    ]
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    assert [tuple(entry[key] for key in keys) for entry in content["annotations"]] == [
        (1, 1, 2, [4, 2, 10, 6], 60, 0),
        (2, 1, 1, [0, 0, 40, 20], 800, 0),
        (3, 2, 1, [5, 5, 0, 0], 0, 0),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<name>dog", "<name>cow", "name is 'cow', expected one of cat, dog"),
        ("<xmin>4<", "<xmin>4.5<", "bndbox/xmin is '4.5', expected a whole number"),
        ("<width>40</width>", "", "size/width is None, expected a whole number"),
        ("</annotation>", "", r"not an XML file \("),
    ],
)
def test_a_wrong_file_is_named(root: Path, old: str, new: str, message: str) -> None:
    path = root / "Annotations/b.xml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=rf"^{path}: {message}"):
        convert(root, "train", ("cat", "dog"), (48, 64))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd"])
def test_a_list_cannot_reach_out_of_the_folder(root: Path, name: str) -> None:
    path = root / "ImageSets/Main/train.txt"
    path.write_text(f"b\n{name}\n")
    with pytest.raises(DataError, match=rf"^{path}: '{name}' is no path within the data"):
        convert(root, "train", ("cat", "dog"), (48, 64))


def test_entities_that_explode_are_refused(root: Path) -> None:
    entities = '<!ENTITY e0 "ha">' + "".join(
        f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 11)
    )
    path = root / "Annotations/b.xml"
    path.write_text(f"<!DOCTYPE a [{entities}]><a>&e10;</a>")
    with pytest.raises(DataError, match=r"not an XML file \(limit on input amplification"):
        convert(root, "train", ("cat", "dog"), (48, 64))


@pytest.mark.parametrize("missing", ["Annotations/a.xml", "ImageSets/Main/train.txt"])
def test_a_missing_file_is_named(root: Path, missing: str) -> None:
    (root / missing).unlink()
    with pytest.raises(DataError, match=rf"^{root / missing}: cannot be read \(No such file"):
        convert(root, "train", ("cat", "dog"), (48, 64))
