"""Where results go: a directory is refused at once, or is there for a command, and goes away where nothing came."""

from pathlib import Path

import pytest

from jaxrl import disk
from jaxrl.errors import UserError


@pytest.mark.parametrize("fails", [False, True])
def test_a_directory_that_stays_empty_goes_away_with_the_parents_made_for_it(tmp_path, fails):
    (tmp_path / "old").mkdir()
    for out in (tmp_path / "a" / "b" / "c", tmp_path / "old" / "new"):
        try:
            with disk.place(out):
                assert out.is_dir() and list(out.iterdir()) == []
                assert not fails, "told"
        except AssertionError as error:
            assert fails and "told" in str(error)
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]


def test_what_came_into_a_directory_keeps_it_and_its_parents(tmp_path):
    out = tmp_path / "a" / "b"
    with pytest.raises(KeyboardInterrupt), disk.place(out):
        (out / "chunk").write_text("x")
        raise KeyboardInterrupt
    assert (out / "chunk").exists()


@pytest.mark.parametrize(
    ("out", "why"), [("/proc/nothing", "No such file|not permitted"), ("file", "exists"), ("a\0b", "null"),
                     ("x" * 300, "too long"), ("file/below", "Not a directory")],
)  # fmt: skip
def test_where_nothing_can_be_written_is_a_sentence(tmp_path, monkeypatch, out, why):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    with pytest.raises(UserError, match=f"out = .* cannot be written: .*{why}"), disk.place(Path(out)):
        raise AssertionError("it was taken")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
