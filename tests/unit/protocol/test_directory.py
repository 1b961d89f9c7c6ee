"""Files whole or not at all."""

from pathlib import Path

from runner.protocol.directory import AttemptDir, read_fields, read_whole, read_word, write_once, write_whole


def test_the_first_of_two_words_stands(tmp_path: Path) -> None:
    directory = AttemptDir(tmp_path)
    assert directory.end("timeout")
    assert not directory.end("cancel")
    assert read_word(directory.cancel) == "timeout"
    assert [path.name for path in tmp_path.iterdir()] == ["cancel"]


def test_an_empty_file_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / "exit").touch()
    assert read_whole(tmp_path / "exit") is None
    assert read_fields(tmp_path / "exit") is None
    assert read_word(tmp_path / "nothing") is None


def test_writing_whole_replaces_and_keeps_the_mode(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"one", 0o600)
    write_whole(tmp_path / "a", b"two", 0o600)
    assert (tmp_path / "a").read_bytes() == b"two"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert not write_once(tmp_path / "a", b"three")


def test_fields_keep_spaces_of_their_values(tmp_path: Path) -> None:
    (tmp_path / "exit").write_text("state exited\nmessage two words\nlone\n")
    assert read_fields(tmp_path / "exit") == {"state": "exited", "message": "two words", "lone": ""}
