from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from prunebench.core.errors import ResultError
from prunebench.core.files import (
    parsed_columns,
    parsed_floats,
    read_csv,
    read_json,
    read_object,
    remove,
    remove_leftovers,
    replacing,
    write_json,
    write_text,
)


def test_a_file_appears_under_its_name_with_its_folders(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "note.txt", "50 % · 2×")
    assert (tmp_path / "a" / "b" / "note.txt").read_bytes() == "50 % · 2×".encode()


def test_while_it_is_written_nothing_stands_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with replacing(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        assert not path.exists()
        assert temporary.name == f".table.{os.getpid()}.csv"
    assert path.read_text(encoding="utf-8") == "half"


def fail_as_pytorch(path: Path) -> None:
    with replacing(path):
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            raise RuntimeError("[enforce fail at inline_container.cc:672]")  # noqa: B904


def test_an_error_of_the_disk_behind_another_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"x\.pt: cannot be written \(No space left on device\)"):
        fail_as_pytorch(tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


def write_half(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise KeyboardInterrupt


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]
    assert path.read_text(encoding="utf-8") == "old"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResultError, match=r"file: cannot be created \(File exists\)"):
        write_text(tmp_path / "file" / "x.txt", "")
    with pytest.raises(ResultError, match=r"folder: cannot be written \(Is a directory\)"):
        write_text(tmp_path / "folder", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=rf"{tmp_path}: cannot be read \(Is a directory\)"):
        read_json(tmp_path)
    with pytest.raises(ResultError, match=rf"{tmp_path}: cannot be read \(Is a directory\)"):
        read_csv(tmp_path, [])


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    content = {"top1": 98.89, "kept": [0, 2], "title": "ß · ×", "none": None}
    write_json(tmp_path / "x.json", content)
    assert read_json(tmp_path / "x.json") == content
    assert "ß · ×" in (tmp_path / "x.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_no_json_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": value})
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"none\.json: no such file"):
        read_json(tmp_path / "none.json")


def test_a_damaged_file_is_named_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"top1": 98.', encoding="utf-8")
    with pytest.raises(ResultError, match=r"x\.json: not valid JSON \(.*line 1"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ("1" * 5000, "Exceeds the limit .* for integer string conversion"),
        (b'"\xff"', "'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_json_that_cannot_be_parsed_is_one_line(
    tmp_path: Path, text: str | bytes, problem: str
) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ResultError, match=rf"x\.json: not valid JSON \({problem}") as error:
        read_json(path)
    assert "\n" not in str(error.value)


def test_a_list_is_no_object(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", [1])
    with pytest.raises(ResultError, match=r"x\.json: expected a JSON object, found \[1\]"):
        read_object(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the column 'a' is missing"),
        (b"a,b\n1,2\n3", "row 2 has 1 cells, expected 2"),
        (b"a,b\n1,2\n3,4,5\n", "row 2 has 3 cells, expected 2"),
        (b"a,b\n1,\xff\n", r"not UTF-8 text \("),
    ],
)
def test_a_damaged_csv_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(ResultError, match=rf"x\.csv: {problem}"):
        read_csv(tmp_path / "x.csv", ["a"])


def test_the_columns_of_a_csv_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    assert parsed_columns(b'a,b\n1,"2,0"\n\n3,4\n', path, ["b", "a"]) == [("2,0", "4"), ("1", "3")]
    assert parsed_columns(b"a,b\n", path, ["b"]) == [()]


@pytest.mark.parametrize(
    "texts",
    [
        ["0.17999997735023499", "-1e-05", "5e-324", "0.0"],
        ["nan", "1.5"],
        ["1e999", "-inf"],
        ["3", "-0", "1_0"],
        [],
    ],
)
def test_numbers_are_read_as_float_reads_them(texts: list[str]) -> None:
    assert list(map(repr, parsed_floats(texts))) == [repr(float(text)) for text in texts]


@pytest.mark.parametrize("text", ["true", '"1.0"', "1.0,2.0", "[1.0]", "", "1.0]+[2.0"])
def test_text_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="could not convert string to float"):
        parsed_floats([text])


def test_what_a_killed_writer_left_behind_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    for name in (".resume.4711.pt", ".table.12.csv", ".lock", "resume.99.unused", "table.csv"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".lock", "resume.99.unused", "table.csv"]


def test_a_file_that_cannot_be_deleted_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    remove(tmp_path / "absent")
    (tmp_path / "old").touch()
    with pytest.raises(ResultError, match=r"old: cannot be deleted \(Read-only file system\)"):
        remove(tmp_path / "old")
