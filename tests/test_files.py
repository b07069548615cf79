"""Files and folders are there whole or not at all: after an error, on a full disk, after a kill, without power."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from keras_mixer import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def in_child(code, *arguments, **kwargs):
    """Run code in a Python of its own, which has no more than the standard library and this package."""
    command = [sys.executable, "-S", "-c", f"import os, pathlib, signal, sys\nfrom keras_mixer import files\n{code}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command += map(str, arguments)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **kwargs)


@pytest.fixture
def synced(monkeypatch):
    """What is synced and renamed, in turn, by its name."""
    calls = []
    real_fsync, real_replace, real_rename = os.fsync, os.replace, os.rename

    def fsync(descriptor):
        calls.append(("fsync", pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.split(".")[-1]))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(("name", b.name)), real_replace(a, b)))
    monkeypatch.setattr(os, "rename", lambda a, b: (calls.append(("name", b.name)), real_rename(a, b)))
    return calls


# ---- Files


def test_a_file_is_synced_then_named_then_its_folder_is_synced(tmp_path, synced):
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "a.json"
    files.write_json(path, {"b": [1, 2], "a": "é"})
    assert synced == [("fsync", "tmp"), ("name", "a.json"), ("fsync", "folder")]
    assert path.read_text() == '{\n  "b": [\n    1,\n    2\n  ],\n  "a": "\\u00e9"\n}\n'
    assert names(path.parent) == ["a.json"]


def test_text_is_utf8_and_bytes_are_bytes(tmp_path):
    files.write_text(tmp_path / "a.txt", "é\n")
    with files.writing(tmp_path / "b", "wb") as file:
        file.write(b"\x00\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n"
    assert (tmp_path / "b").read_bytes() == b"\x00\n"


def test_the_folder_is_made_and_the_temporary_name_has_the_ending_asked_for(tmp_path):
    with files.replacing(tmp_path / "new" / "model.keras", ".tmp.keras") as temporary:
        assert temporary.name.startswith(".model.keras.")
        assert temporary.name.endswith(".tmp.keras")
        temporary.touch()
        with files.replacing(tmp_path / "new" / "model.keras") as other:  # two threads have one process id
            assert other.name.endswith(".tmp")
            assert other.stem != temporary.stem
            other.touch()
    assert names(tmp_path / "new") == ["model.keras"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    files.write_text(tmp_path / "ours", "")
    (tmp_path / "other").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error), files.writing(tmp_path / "a.txt") as file:
        file.write("new")
        raise error
    with pytest.raises(error), files.replacing(tmp_path / "b.txt"):
        raise error  # before there is a temporary file
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"
    with files.writing(tmp_path / "a.txt") as file:
        file.write("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_an_fsync_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(5, "Input/output error")

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    message = r"workdir: .*a.txt cannot be written \(Input/output error\); what was saved before is kept. Make room"
    with pytest.raises(files.SaveError, match=message):
        files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_that_cannot_be_synced_does_no_harm(tmp_path, monkeypatch):
    real_fsync = os.fsync

    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(22, "Invalid argument")  # as some file systems say
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_text(tmp_path / "a.txt", "new")
    with files.replacing_folder(tmp_path / "b", tmp_path / ".b.tmp") as folder:
        (folder / "c").mkdir()
    assert names(tmp_path) == ["a.txt", "b"]


FILL = """
path = pathlib.Path(sys.argv[1])
if sys.argv[2] == "file":
    try: files.write_text(path, "new" * 100_000)
    except files.SaveError as error: print(error)
else:
    try:
        with files.replacing_folder(path, path.with_name(".a.tmp")) as folder:
            (folder / "small").write_text("new")
            (folder / "large").write_text("new" * 100_000)
    except OSError as error: print(error.strerror)
"""


@pytest.fixture(params=["limit", "tmpfs"])
def full(request, tmp_path):
    """A folder where a file of 300 kB cannot be written, and what a process needs for that."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    if request.param == "limit":
        yield tmp_path, limit, "File too large"
        return
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("may not mount a small file system here")
    try:
        yield tmp_path, None, "No space left on device"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_full_disk_leaves_the_old_file(full):
    folder, limit, reason = full
    (folder / "a").write_text("old")
    done = in_child(FILL, folder / "a", "file", preexec_fn=limit)
    assert done.stdout.startswith(f"workdir: {folder / 'a'} cannot be written ({reason}); what was saved"), done.stderr
    assert (folder / "a").read_text() == "old"
    assert names(folder) == ["a"]


def test_a_full_disk_leaves_the_old_folder(full):
    folder, limit, reason = full
    (folder / "a").mkdir()
    (folder / "a" / "small").write_text("old")
    done = in_child(FILL, folder / "a", "folder", preexec_fn=limit)
    assert done.stdout == f"{reason}\n", done.stderr
    assert names(folder) == ["a"]
    assert [(p.name, p.read_text()) for p in (folder / "a").iterdir()] == [("small", "old")]


# ---- Kills


KILLED = """
real = getattr(os, sys.argv[2])
def kill(*arguments):
    if sys.argv[3] == "after": real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, sys.argv[2], kill)
files.write_text(pathlib.Path(sys.argv[1]), "new")
"""


@pytest.mark.parametrize(
    ("call", "when", "content"),
    [("fsync", "before", "old"), ("replace", "before", "old"), ("replace", "after", "new")],
)
def test_kill_9_between_write_and_rename_leaves_the_old_file_whole(tmp_path, call, when, content):
    path = tmp_path / "a.txt"
    path.write_text("old")
    assert in_child(KILLED, path, call, when).returncode == -signal.SIGKILL
    assert path.read_text() == content
    left = [name for name in names(tmp_path) if name != "a.txt"]
    assert len(left) == (content == "old")
    assert all(name.startswith(".a.txt.") and name.endswith(".tmp") for name in left)
    files.write_text(path, "newer")  # is not disturbed by what was left
    assert path.read_text() == "newer"


KILLED_AT_A_LINE = """
countdown = int(sys.argv[2])
def kill(frame, event, argument):
    global countdown
    if event == "line" and frame.f_code.co_filename == files.__file__:
        countdown -= 1
        if not countdown:
            os.kill(os.getpid(), signal.SIGKILL)
    return kill
if sys.argv[3] == "two steps":
    files._exchange = lambda one, other: False
target = pathlib.Path(sys.argv[1])
sys.settrace(kill)
with files.replacing_folder(target, target.with_name(".a.tmp")) as folder:
    for name in ("one", "two"):
        (folder / name).write_text("new")
sys.settrace(None)
"""


@pytest.mark.parametrize("way", ["exchange", "two steps"])
def test_kill_9_at_any_line_leaves_the_old_or_the_new_folder(tmp_path, way):
    """In two steps the next one puts back what was between them; an exchange has no such moment."""
    target, seen, code = tmp_path / "a", set(), -1
    target.mkdir()
    for name in ("one", "two"):
        (target / name).write_text("old")
    for count in range(1, 400):
        if not code:
            break
        code = in_child(KILLED_AT_A_LINE, target, count, way).returncode
        if way == "two steps":
            files.put_back(tmp_path / ".a.old", target)
        assert names(target) == ["one", "two"]
        contents = {(target / name).read_text() for name in ("one", "two")}
        assert len(contents) == 1
        assert set(names(tmp_path)) <= {"a", ".a.tmp", ".a.old"}
        seen |= contents
        if contents == {"new"} and code:  # from here on only its end is left to be killed
            for name in ("one", "two"):
                (target / name).write_text("old")
    assert code == 0
    assert seen == {"old", "new"}
    assert names(tmp_path) == ["a"]


# ---- Folders


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_synced_with_all_in_it_then_named_then_its_parent(tmp_path, synced, monkeypatch, exchange):
    parent = tmp_path / "parent"
    (parent / "a").mkdir(parents=True)
    (parent / "a" / "old").touch()
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    with files.replacing_folder(parent / "a", parent / ".a.tmp") as folder:
        assert names(folder) == []
        (folder / "sub").mkdir()
        (folder / "sub" / "file").touch()
        assert names(parent / "a") == ["old"]
    assert sorted(synced[:3]) == [("fsync", "file"), ("fsync", "sub"), ("fsync", "tmp")]
    assert synced[3:] == [("name", ".a.old"), *([] if exchange else [("name", "a")]), ("fsync", "parent")]
    assert names(parent) == ["a"]
    assert names(parent / "a") == ["sub"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    for had in (False, True):
        if had:
            (tmp_path / "a").mkdir()
            (tmp_path / "a" / "old").touch()
        with pytest.raises(error), files.replacing_folder(tmp_path / "a", tmp_path / ".a.tmp") as folder:
            (folder / "new").touch()
            raise error
        assert names(tmp_path) == ["a"] * had
    assert names(tmp_path / "a") == ["old"]


def test_an_error_between_the_two_steps_puts_the_old_folder_back(tmp_path, monkeypatch):
    real_rename = os.rename

    def rename(one, other):
        if one.name == ".a.tmp":
            raise OSError(5, "Input/output error")
        real_rename(one, other)

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="Input/output"), files.replacing_folder(tmp_path / "a", tmp_path / ".a.tmp"):
        pass
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["old"]


def test_what_a_killed_process_left_is_put_back_or_removed(tmp_path):
    for name in (".a.tmp/half", ".a.tmp/sub/half", ".a.old/old"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with files.replacing_folder(tmp_path / "a", tmp_path / ".a.tmp") as folder:
        assert names(tmp_path / "a") == ["old"]
        assert names(folder) == []
        (folder / "new").touch()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["new"]


# ---- Places


def test_open_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.open_folder("~/a/b") == tmp_path / "a" / "b"
    assert names(tmp_path / "a" / "b") == []
    with pytest.raises(ValueError, match=r"^workdir: must name a folder, got an empty text\.$"):
        files.open_folder("", "workdir")
    (tmp_path / "file").touch()
    sentence = r"^output: cannot write to .*file/a \(Not a directory\); choose another --output\.$"
    with pytest.raises(OSError, match=sentence):
        files.open_folder(tmp_path / "file" / "a")
    with pytest.raises(OSError, match=r"^workdir: cannot write to /proc \(.*\); choose another --workdir\.$"):
        files.open_folder("/proc", "workdir")


def test_target_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert files.target_path("save", "~/a.npz", ".npz") == tmp_path / "a.npz"
    assert names(tmp_path) == []
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file.npz").touch()
    for path, kind, sentence in [
        (5, ValueError, "path must be a path that ends in .npz, got int."),
        (b"a.npz", ValueError, "path must be a path that ends in .npz, got bytes."),
        ("a.txt", ValueError, "path must end in .npz, got 'a.txt'."),
        ("folder.npz", IsADirectoryError, "path must be that of a file, but 'folder.npz' is a directory."),
        ("file.npz", FileExistsError, "'file.npz' exists; give overwrite=True to replace it, or another path."),
        (
            "no/a.npz",
            FileNotFoundError,
            "path must be in a folder that exists, but 'no' of 'no/a.npz' does not; create it.",
        ),
        (
            "file.npz/a.npz",
            NotADirectoryError,
            "path must be in a folder, but 'file.npz' of 'file.npz/a.npz' is a file.",
        ),
    ]:
        with pytest.raises(kind) as caught:
            files.target_path("save", path, ".npz", overwrite=False)
        assert str(caught.value) == f"save: {sentence}"
    for path, reason in ((f"{'a' * 300}.npz", "File name too long"), ("/proc/a.npz", "No such file or directory")):
        with pytest.raises(OSError, match=rf"save: path '{path}' cannot be written \({reason}\)\.$") as caught:
            files.target_path("save", path, ".npz")
        assert caught.value.errno
    assert files.target_path("save", "file.npz", ".npz") == pathlib.Path("file.npz")


def test_move_aside_takes_the_first_free_name(tmp_path):
    for _ in range(2):
        (tmp_path / "a").mkdir()
        files.move_aside(tmp_path / "a")
    assert names(tmp_path) == ["a.moved_0", "a.moved_1"]


def test_a_lock_is_held_by_one_and_ends_with_its_block(tmp_path):
    for path in (tmp_path, tmp_path / ".lock"):
        with files.lock(path, "busy"):
            for _ in range(2):
                with pytest.raises(ValueError, match="^busy$"):
                    files.lock(path, "busy")
        files.lock(path, "busy").close()
    with pytest.raises(FileNotFoundError):
        files.lock(tmp_path / "no" / ".lock", "busy")


def test_the_lock_of_a_folder_that_another_process_has_just_renamed_is_not_held(tmp_path, monkeypatch):
    flock = files.fcntl.flock
    (tmp_path / "a").mkdir()
    for after in (lambda: None, (tmp_path / "a").mkdir):

        def late(descriptor, how, after=after):
            files.move_aside(tmp_path / "a")
            after()
            flock(descriptor, how)

        monkeypatch.setattr(files.fcntl, "flock", late)
        with pytest.raises(ValueError, match="^busy$"):
            files.lock(tmp_path / "a", "busy")
        (tmp_path / "a").mkdir(exist_ok=True)


def test_sentences_of_our_own_are_not_wrapped_again():
    with pytest.raises(FileExistsError, match="^a sentence$"), files.naming_path("save", "a.npz"):
        raise FileExistsError("a sentence")
    sentence = r"save: path 'a.npz' cannot be written \(Permission denied\)\.$"
    with pytest.raises(PermissionError, match=sentence), files.naming_path("save", pathlib.Path("a.npz")):
        raise PermissionError(13, "Permission denied")


def test_json_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", object())
    assert names(tmp_path) == []
    files.write_json(tmp_path / "a.json", [1])
    assert json.loads((tmp_path / "a.json").read_text()) == [1]
