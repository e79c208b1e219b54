"""A log file that many write at once: no line is lost or torn, and what is full is set aside, compressed, removed."""

from __future__ import annotations

import fcntl
import gzip
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cni.plugin import logfile
from cni.plugin.logfile import Backups, LogFile

EVERYTHING = Backups(size=1000, days=0, number=0, compress=False)


def write(path: Path | str, text: str, backups: Backups = EVERYTHING) -> LogFile:
    file = LogFile(str(path), backups)
    file.emit(record(text))
    return file


def record(text: str, *arguments: Any) -> logging.LogRecord:
    return logging.LogRecord("cni", logging.ERROR, "", 0, text, arguments, None)


def read(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()


def others(path: Path) -> list[Path]:
    return sorted(other for other in path.parent.iterdir() if other != path)


def set_aside(path: Path, days: float, ending: str = ".log") -> Path:
    """Make a file that was set aside so many days ago."""
    stamp = time.strftime(logfile.STAMP, time.gmtime(time.time() - days * logfile.DAY))
    made = path.with_name(f"{path.stem}-{stamp}.000{ending}")
    made.write_text("old\n")
    return made


def test_lines_follow_each_other_in_a_file_for_root_alone(tmp_path: Path):
    path = tmp_path / "new" / "directory" / "x.log"
    write(path, "a")
    write(path, "b")
    assert path.read_text() == "a\nb\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_directories_that_are_made_for_it_are_written_by_root_alone(tmp_path: Path):
    before = os.umask(0)
    try:
        write(tmp_path / "new" / "directory" / "x.log", "a")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "new", tmp_path / "new" / "directory")] == [0o755] * 2


def test_a_file_in_the_directory_of_the_process_needs_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for text in ("a" * 600, "b" * 600):
        write("x.log", text)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_line_that_does_not_fit_begins_a_new_file(tmp_path: Path):
    path = tmp_path / "x.log"
    write(path, "a" * 499)
    write(path, "b" * 499)
    assert others(path) == []

    write(path, "c")

    [aside] = others(path)
    assert path.read_text() == "c\n"
    assert aside.read_text() == "a" * 499 + "\n" + "b" * 499 + "\n"
    assert logfile.STAMPED.search(aside.name)
    assert aside.suffix == ".log"


def test_a_line_that_is_too_long_for_any_file_is_written_all_the_same(tmp_path: Path):
    path = tmp_path / "x.log"
    write(path, "a" * 5000)
    assert path.read_text() == "a" * 5000 + "\n"


def test_what_is_set_aside_twice_in_a_moment_is_kept_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.999)
    path = tmp_path / "x.log"
    for text in "abc":
        write(path, text * 600)
    assert [aside.name for aside in others(path)] == [
        "x-2023-11-14T22-13-20.999.log",
        "x-2023-11-14T22-13-21.000.log",
    ]


def test_what_is_set_aside_is_compressed(tmp_path: Path):
    path = tmp_path / "x.log"
    write(path, "a" * 600)
    write(path, "b", Backups(size=600))
    [aside] = others(path)
    assert aside.name.endswith(".log.gz")
    assert read(aside) == "a" * 600 + "\n"
    assert aside.stat().st_mode & 0o777 == 0o600


def test_the_newest_are_kept_and_the_rest_goes(tmp_path: Path):
    path = tmp_path / "x.log"
    made = [
        set_aside(path, days, ending) for days, ending in ((4, ".log"), (1, ".log.gz"), (3, ".log.gz"), (2, ".log"))
    ]

    logfile.tidy(str(path), Backups(days=0, number=2, compress=False))

    assert set(others(path)) == {made[1], made[3]}


def test_what_is_too_old_goes(tmp_path: Path):
    path = tmp_path / "x.log"
    old, young = set_aside(path, 5.1), set_aside(path, 4.9)
    logfile.tidy(str(path), Backups(days=5, number=0, compress=False))
    assert others(path) == [young]
    assert not old.exists()


def test_other_files_are_left_alone(tmp_path: Path):
    path = tmp_path / "x.log"
    kept = [tmp_path / name for name in ("y-2001-01-01T00-00-00.000.log", "x-today.log", "xx.log", "x.log.1")]
    for other in kept:
        other.touch()
    logfile.tidy(str(path), Backups(days=1, number=1))
    assert set(others(path)) == set(kept)


def test_a_compression_that_was_interrupted_is_done_again(tmp_path: Path):
    path = tmp_path / "x.log"
    aside = set_aside(path, 1)
    aside.with_name(aside.name + ".gz.tmp").write_text("half")
    logfile.tidy(str(path), Backups())
    assert [other.name for other in others(path)] == [aside.name + ".gz"]
    assert read(others(path)[0]) == "old\n"


def test_what_another_process_compresses_is_left_to_it(tmp_path: Path):
    path = tmp_path / "x.log"
    aside = set_aside(path, 1)
    with aside.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        logfile.tidy(str(path), Backups())
    assert others(path) == [aside]


def test_many_writers_lose_and_tear_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logfile, "PATIENCE", 1_000_000)
    path = tmp_path / "x.log"
    wanted = {f"{writer}-{number}" + "." * 80 for writer in range(8) for number in range(50)}

    def work(writer: int) -> None:
        file = LogFile(str(path), Backups(size=1000, days=0, number=0))
        for number in range(50):
            file.emit(record(f"{writer}-{number}" + "." * 80))

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = [line for file in (path, *others(path)) for line in read(file).splitlines()]
    assert sorted(lines) == sorted(wanted)
    assert len(others(path)) > 20


def test_a_file_that_somebody_else_replaced_is_written_anew(tmp_path: Path):
    path = tmp_path / "x.log"
    file = write(path, "a")
    path.rename(tmp_path / "x.log.1")
    file.emit(record("b"))
    assert path.read_text() == "b\n"


def test_a_lock_that_is_never_given_back_delays_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "x.log"
    path.write_text("a" * 999 + "\n")
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    file = LogFile(str(path), EVERYTHING)

    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        file.emit(record("b"))
        file.emit(record("c"))
    assert len(pauses) == logfile.PATIENCE
    assert path.read_text().endswith("b\nc\n")
    assert others(path) == []

    file.emit(record("d"))
    assert path.read_text() == "d\n"


def a_directory(path: Path) -> None:
    path.mkdir()


def a_pipe_nobody_reads(path: Path) -> None:
    os.mkfifo(path)


def below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


@pytest.mark.parametrize("make", [a_directory, a_pipe_nobody_reads, below_a_file])
def test_a_file_that_cannot_be_written_is_told_once_and_fails_nothing(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "logs" / "x.log"
    path.parent.mkdir()
    make(path)
    file = LogFile(str(path), EVERYTHING)
    for _ in range(3):
        file.emit(record("a"))
    told = capsys.readouterr().err
    assert told.startswith(f"plexus: could not write the log '{path}': ")
    assert told.count("\n") == 1


@pytest.mark.parametrize("path", ["/a\0b", "/dev/full"])
def test_nor_does_a_path_that_cannot_be_or_a_full_disk(path: str, capsys: pytest.CaptureFixture[str]):
    write(path, "a")
    assert "could not write the log" in capsys.readouterr().err


def test_nor_does_a_record_that_cannot_be_formatted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = LogFile(str(tmp_path / "x.log"), EVERYTHING)
    file.emit(record("%d", "x"))
    file.emit(record("b"))
    assert (tmp_path / "x.log").read_text() == "b\n"
    assert "Logging error" in capsys.readouterr().err


def test_bytes_that_are_no_text_are_shown_as_what_they_are(tmp_path: Path):
    write(tmp_path / "x.log", "caf\udce9")
    assert (tmp_path / "x.log").read_text() == "caf\\udce9\n"
