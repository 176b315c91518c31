"""Files below allowed folders, and every way out of them that we know."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from cpa.artifacts.folder import FolderArtifacts
from cpa.core.classes import FailureClass
from cpa.executors.files.executor import MAX_INLINE, FileExecutor
from cpa.executors.files.folders import Folders, parent, replacement
from cpa.ports.executor import ActionRequest, ExecutionResult, Verdict

NFD = unicodedata.normalize("NFD", "Größe.txt")
NFC = unicodedata.normalize("NFC", "Größe.txt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    allowed = tmp_path / "erlaubt"
    allowed.mkdir()
    return allowed


@pytest.fixture
def artifacts(tmp_path: Path) -> FolderArtifacts:
    return FolderArtifacts(tmp_path / "artifacts", 64 * 1024 * 1024)


@pytest.fixture
def files(folder: Path, artifacts: FolderArtifacts) -> FileExecutor:
    return FileExecutor([folder], artifacts)


def ask(
    action: str, *, epoch: int = 1, tenant: str = "default", tainted: str = "", **arguments: Any
) -> ActionRequest:
    return ActionRequest(
        tenant=tenant,
        job="0192",
        task="file",
        action=f"file.{action}",
        arguments=arguments,
        epoch=epoch,
        tainted=frozenset({tainted} - {""}),
    )


def problem(result: ExecutionResult) -> tuple[FailureClass, str]:
    assert result.error is not None
    assert result.error.remedy
    return result.error.failure, result.error.code


OUTSIDE = (FailureClass.POLICY, "outside_allowed_folders")


# -- reading -----------------------------------------------------------------------------------------------------


async def test_text_file_comes_with_its_text(
    files: FileExecutor, folder: Path, artifacts: FolderArtifacts
) -> None:
    (folder / "unter").mkdir()
    (folder / "unter" / "Grüße.csv").write_text("Name;Größe\n", encoding="utf-8-sig")
    for path in ("unter/Grüße.csv", str(folder / "unter" / "Grüße.csv"), "./unter//Grüße.csv"):
        result = await files.execute(ask("read", path=path))
        assert result.success, result.error
        assert result.result["text"] == "Name;Größe\n"
        assert result.result["file"]["name"] == "Grüße.csv"
        assert result.result["file"]["media_type"] == "text/csv"
    stored = await artifacts.read("default", result.artifacts[0])
    assert stored == (folder / "unter" / "Grüße.csv").read_bytes()


@pytest.mark.parametrize("content", [b"%PDF\x00", b"\xff\xfe", b"x" * (MAX_INLINE + 1)])
async def test_binary_or_long_file_comes_by_reference_only(
    files: FileExecutor, folder: Path, artifacts: FolderArtifacts, content: bytes
) -> None:
    (folder / "a.bin").write_bytes(content)
    result = await files.execute(ask("read", path="a.bin"))
    assert "text" not in result.result
    assert await artifacts.read("default", result.result["file"]["artifact"]) == content


async def test_missing_file_is_named(files: FileExecutor, folder: Path) -> None:
    for path in ("fehlt.txt", "fehlt/auch.txt"):
        result = await files.execute(ask("read", path=path))
        assert problem(result) == (FailureClass.BUSINESS, "file_not_found")
        assert result.error is not None
        assert str(folder / path) in result.error.message


@pytest.mark.parametrize(("stored", "asked"), [(NFD, NFC), (NFC, NFD)])
async def test_umlauts_match_however_they_are_composed(
    files: FileExecutor, folder: Path, stored: str, asked: str
) -> None:
    (folder / stored).write_text("x")
    assert (await files.execute(ask("read", path=asked))).success
    assert (await files.execute(ask("write", path=asked, text="neu"))).success
    assert os.listdir(folder) == [stored]
    assert (folder / stored).read_text() == "neu"


async def test_new_name_is_written_composed(files: FileExecutor, folder: Path) -> None:
    await files.execute(ask("write", path=NFD, text="x"))
    assert os.listdir(folder) == [NFC]


# -- the ways out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "../geheim.txt",
        "unter/../../geheim.txt",
        "unter/..",
        "/etc/passwd",
        "//etc/passwd",
        "{folder}/../geheim.txt",
        "{folder}-anders/geheim.txt",
        "{FOLDER}/geheim.txt",
        "/proc/self/environ",
        "/dev/zero",
    ],
)
@pytest.mark.parametrize("action", ["read", "write"])
async def test_path_that_leads_out_is_against_the_policy(
    files: FileExecutor, folder: Path, path: str, action: str
) -> None:
    (folder.parent / "geheim.txt").write_text("geheim")
    asked = path.format(folder=folder, FOLDER=str(folder).upper())
    extra: dict[str, Any] = {"text": "x"} if action == "write" else {}
    result = await files.execute(ask(action, path=asked, **extra))
    assert problem(result) == OUTSIDE
    assert result.error is not None
    assert str(folder) in result.error.message
    assert (folder.parent / "geheim.txt").read_text() == "geheim"


@pytest.mark.parametrize("target", ["{outside}", "{inside}", "fehlt"])
@pytest.mark.parametrize("linked", ["file", "folder"])
async def test_symbolic_link_is_refused_wherever_it_leads(
    files: FileExecutor, folder: Path, target: str, linked: str
) -> None:
    outside = folder.parent / "draussen"
    for place in (outside, folder / "innen"):
        place.mkdir()
        (place / "a.txt").write_text("unberührt")
    goal = Path(target.format(outside=outside, inside=folder / "innen"))
    (folder / "link").symlink_to(goal / "a.txt" if linked == "file" else goal)
    path = "link" if linked == "file" else "link/a.txt"
    for request in (
        ask("read", path=path),
        ask("write", path=path, text="böse"),
        ask("move", source=path, target="b.txt"),
        ask("move", source="innen/a.txt", target=path),
    ):
        assert problem(await files.execute(request)) == (FailureClass.POLICY, "symbolic_link")
    assert (outside / "a.txt").read_text() == (folder / "innen" / "a.txt").read_text() == "unberührt"


async def test_link_swapped_in_while_the_path_is_walked_leads_nowhere(folder: Path) -> None:
    """A folder is replaced by a link again and again while another thread walks through it."""
    outside = folder.parent / "draussen"
    outside.mkdir()
    (outside / "a.txt").write_text("geheim")
    (folder / "echt").mkdir()
    (folder / "echt" / "a.txt").write_text("erlaubt")
    (folder / "link").symlink_to(outside)
    (folder / "weg").mkdir()
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            os.rename(folder / "echt", folder / "weg" / "x")
            os.rename(folder / "link", folder / "echt")
            os.rename(folder / "echt", folder / "link")
            os.rename(folder / "weg" / "x", folder / "echt")

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen: set[str] = set()
    artifacts = FolderArtifacts(folder.parent / "store", 1024)
    files = FileExecutor([folder], artifacts)
    try:
        for _ in range(300):
            result = await files.execute(ask("read", path="echt/a.txt"))
            seen.add(result.result["text"] if result.success else problem(result)[1])
    finally:
        ended.set()
        swapping.join()
    assert "geheim" not in seen
    assert "erlaubt" in seen


async def test_devices_pipes_and_sockets_are_refused_without_waiting(
    files: FileExecutor, folder: Path
) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket"))
        for name in ("pipe", "socket"):
            for request in (ask("read", path=name), ask("write", path=name, text="x")):
                assert problem(await files.execute(request)) == (FailureClass.POLICY, "not_a_file")


async def test_folder_is_no_file(files: FileExecutor, folder: Path) -> None:
    (folder / "unter").mkdir()
    for path in ("unter", "unter/", str(folder), "."):
        assert problem(await files.execute(ask("read", path=path))) == (FailureClass.BUSINESS, "is_a_folder")
    (folder / "datei").write_text("x")
    assert problem(await files.execute(ask("write", path="datei/x", text="y")))[1] == "not_a_folder"


@pytest.mark.parametrize("path", ["a\x00b", "a\nb", "", "x" * 300, None, 7.5, ["a"]])
async def test_impossible_path_is_a_bad_argument(files: FileExecutor, path: object) -> None:
    result = await files.execute(ask("read", path=path))
    assert problem(result)[0] is FailureClass.BUSINESS
    assert problem(result)[1] in ("bad_argument", "file_not_found")


async def test_path_from_outside_is_against_the_policy(files: FileExecutor, folder: Path) -> None:
    (folder / "a.txt").write_text("x")
    result = await files.execute(ask("read", path="a.txt", tainted="path"))
    assert problem(result) == (FailureClass.POLICY, "tainted_argument")


async def test_tenant_touches_its_own_folders_only(
    tmp_path: Path, folder: Path, artifacts: FolderArtifacts
) -> None:
    acme = tmp_path / "acme"
    acme.mkdir()
    files = FileExecutor([folder], artifacts, tenants={"acme": [acme]})
    (acme / "a.txt").write_text("von acme")
    assert (await files.execute(ask("read", tenant="acme", path="a.txt"))).result["text"] == "von acme"
    assert problem(await files.execute(ask("read", path=str(acme / "a.txt")))) == OUTSIDE
    assert problem(await files.execute(ask("read", tenant="globex", path="a.txt"))) == OUTSIDE


async def test_folder_reached_through_the_operators_own_link_works(
    tmp_path: Path, folder: Path, artifacts: FolderArtifacts
) -> None:
    (tmp_path / "alias").symlink_to(folder)
    (folder / "a.txt").write_text("x")
    assert (await FileExecutor([tmp_path / "alias"], artifacts).execute(ask("read", path="a.txt"))).success


async def test_missing_folder_waits_for_the_operator(tmp_path: Path, artifacts: FolderArtifacts) -> None:
    result = await FileExecutor([tmp_path / "share"], artifacts).execute(ask("read", path="a.txt"))
    assert problem(result) == (FailureClass.ENVIRONMENT, "folder_unavailable")


# -- writing -----------------------------------------------------------------------------------------------------


async def test_text_is_written_and_proved(files: FileExecutor, folder: Path) -> None:
    request = ask("write", path="neu/tief/Grüße.txt", text="Grüße\n")
    assert (await files.verify(request)).verdict is Verdict.ABSENT
    result = await files.execute(request)
    assert result.result == {"path": str(folder / "neu/tief/Grüße.txt"), "size": 8}
    assert (folder / "neu/tief/Grüße.txt").read_text() == "Grüße\n"
    proved = await files.verify(request)
    assert (proved.verdict, proved.result) == (Verdict.HAPPENED, result.result)


async def test_artifact_is_written_and_proved(
    files: FileExecutor, folder: Path, artifacts: FolderArtifacts
) -> None:
    content = os.urandom(3 * 1024 * 1024 + 7)
    stored = await artifacts.put("default", content)
    request = ask("write", path="a.bin", file=stored.as_reference())
    result = await files.execute(request)
    assert result.result["size"] == len(content)
    assert (folder / "a.bin").read_bytes() == content
    assert (await files.verify(request)).verdict is Verdict.HAPPENED
    assert os.listdir(folder) == ["a.bin"]


async def test_writing_replaces_and_keeps_the_mode(files: FileExecutor, folder: Path) -> None:
    (folder / "a.txt").write_text("alt")
    (folder / "a.txt").chmod(0o640)
    assert (await files.execute(ask("write", path="a.txt", text=""))).result["size"] == 0
    assert (folder / "a.txt").read_text() == ""
    assert (folder / "a.txt").stat().st_mode & 0o777 == 0o640


async def test_a_list_is_written_in_lines(files: FileExecutor, folder: Path) -> None:
    assert (await files.execute(ask("write", path="a.txt", text=["ACME", "Müller", 3]))).success
    assert (folder / "a.txt").read_text() == "ACME\nMüller\n3"


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"text": "x", "file": {"artifact": "x"}},
        {"file": "a.txt"},
        {"text": [["x"]]},
        {"text": ["\ud800"]},
    ],
)
async def test_unclear_content_is_a_bad_argument(
    files: FileExecutor, folder: Path, arguments: dict[str, Any]
) -> None:
    assert problem(await files.execute(ask("write", path="a.txt", **arguments)))[1] == "bad_argument"
    assert os.listdir(folder) == []


async def test_artifact_that_is_not_stored_leaves_no_trace(files: FileExecutor, folder: Path) -> None:
    missing = {"artifact": "sha256:" + "0" * 64}
    result = await files.execute(ask("write", path="a.txt", file=missing))
    assert problem(result) == (FailureClass.BUSINESS, "artifact_not_found")
    assert os.listdir(folder) == []


def test_write_that_breaks_off_leaves_the_old_content_and_nothing_else(folder: Path) -> None:
    (folder / "a.txt").write_text("alt")
    place = Folders([folder]).locate("path", "a.txt")

    def broken() -> None:
        with parent(place) as (descriptor, name), replacement(descriptor, name) as new:
            os.write(new, b"halb")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        broken()
    assert os.listdir(folder) == ["a.txt"]
    assert (folder / "a.txt").read_text() == "alt"


async def test_cancelled_write_leaves_the_whole_file_or_none(
    files: FileExecutor, folder: Path, artifacts: FolderArtifacts
) -> None:
    content = bytes(16 * 1024 * 1024)
    stored = await artifacts.put("default", content)
    request = ask("write", path="a.bin", file=stored.as_reference())
    for turns in range(0, 60, 6):
        writing = asyncio.create_task(files.execute(request))
        for _ in range(turns):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        left = os.listdir(folder)
        assert left in ([], ["a.bin"])
        if left:
            assert (folder / "a.bin").stat().st_size == len(content)
            (folder / "a.bin").unlink()


# -- moving ------------------------------------------------------------------------------------------------------


async def test_move_is_proved_by_what_is_gone_and_what_is_there(files: FileExecutor, folder: Path) -> None:
    (folder / "eingang").mkdir()
    (folder / "eingang" / "Rechnung ü.pdf").write_bytes(b"%PDF")
    request = ask("move", source="eingang/Rechnung ü.pdf", target="erledigt/2026/R1.pdf")
    assert (await files.verify(request)).verdict is Verdict.ABSENT
    result = await files.execute(request)
    assert result.result == {"path": str(folder / "erledigt/2026/R1.pdf")}
    assert (folder / "erledigt/2026/R1.pdf").read_bytes() == b"%PDF"
    assert os.listdir(folder / "eingang") == []
    assert (await files.verify(request)).verdict is Verdict.HAPPENED


async def test_move_never_replaces_something_else(files: FileExecutor, folder: Path) -> None:
    (folder / "a").write_text("neu")
    (folder / "b").write_text("alt")
    request = ask("move", source="a", target="b")
    assert problem(await files.execute(request)) == (FailureClass.BUSINESS, "target_exists")
    assert ((folder / "a").read_text(), (folder / "b").read_text()) == ("neu", "alt")
    assert (await files.verify(request)).verdict is Verdict.ABSENT


async def test_second_attempt_finishes_a_move_that_broke_off_half_way(
    files: FileExecutor, folder: Path
) -> None:
    (folder / "a").write_text("x")
    os.link(folder / "a", folder / "b")
    request = ask("move", source="a", target="b", epoch=2)
    assert (await files.verify(request)).verdict is Verdict.ABSENT
    assert (await files.execute(request)).success
    assert os.listdir(folder) == ["b"]


async def test_second_attempt_after_a_finished_move_succeeds(files: FileExecutor, folder: Path) -> None:
    (folder / "b").write_text("x")
    again = await files.execute(ask("move", source="a", target="b", epoch=2))
    assert again.success
    first = await files.execute(ask("move", source="a", target="b"))
    assert problem(first)[1] == "file_not_found"


async def test_file_moved_onto_itself_stays(files: FileExecutor, folder: Path) -> None:
    (folder / NFC).write_text("x")
    for target in (NFC, NFD, str(folder / NFC)):
        assert (await files.execute(ask("move", source=NFC, target=target))).success
    assert (folder / NFC).read_text() == "x"


async def test_neither_source_nor_target_cannot_be_told(files: FileExecutor) -> None:
    told = await files.verify(ask("move", source="a", target="b"))
    assert (told.verdict, told.look_again) == (Verdict.UNKNOWN, None)


async def test_move_between_file_systems_copies_whole(tmp_path: Path, artifacts: FolderArtifacts) -> None:
    shared = Path("/dev/shm") / f"cpa-test-{os.getpid()}"
    shared.mkdir()
    try:
        assert shared.stat().st_dev != tmp_path.stat().st_dev, "the test needs two file systems"
        (shared / "a.bin").write_bytes(b"x" * 3_000_000)
        files = FileExecutor([tmp_path, shared], artifacts)
        result = await files.execute(ask("move", source=str(shared / "a.bin"), target="b.bin"))
        assert result.success, result.error
        assert (tmp_path / "b.bin").read_bytes() == b"x" * 3_000_000
        assert os.listdir(shared) == []
    finally:
        for left in shared.iterdir():
            left.unlink()
        shared.rmdir()


async def test_many_moves_of_one_file_end_with_one_winner(files: FileExecutor, folder: Path) -> None:
    (folder / "a").write_text("x")
    results = await asyncio.gather(
        *(files.execute(ask("move", source="a", target=f"b{n}")) for n in range(8))
    )
    names = os.listdir(folder)
    assert "a" not in names
    assert sum(each.success for each in results) >= 1
    assert all((folder / name).read_text() == "x" for name in names)
