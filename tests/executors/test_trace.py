from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from cpa.executors.redaction import MASK
from cpa.executors.web.trace import redact_zip


def archive(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def test_names_and_contents_of_entries_are_redacted_and_the_rest_is_kept(tmp_path: Path) -> None:
    binary = bytes(range(256))
    source = archive(tmp_path / "a.zip", plain=binary, **{"x-geheim-y": b"[geheim][gehe%69m][\\u0067eheim]"})
    assert redact_zip(source, tmp_path / "b.zip", {"geheim", ""})
    with zipfile.ZipFile(tmp_path / "b.zip") as found:
        assert found.namelist() == ["plain", "x-[secret]-y"]
        assert found.read("plain") == binary
        assert found.read("x-[secret]-y") == b"[%s]" % MASK * 3


@pytest.mark.parametrize("secret", ["a", "abc"])
def test_a_secret_too_short_to_find_keeps_the_trace_from_being_written(tmp_path: Path, secret: str) -> None:
    assert not redact_zip(archive(tmp_path / "a.zip", x=b"abc"), tmp_path / "b.zip", {secret, "long enough"})
    assert not (tmp_path / "b.zip").exists()
