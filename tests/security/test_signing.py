"""An agent's signing key: made once, kept where only its owner reads it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.repository.shell import SteppedClock

from cpa.errors import BadInput, Unavailable
from cpa.security.signatures import check_public_key
from cpa.security.signing import Signer


def test_the_key_is_made_once_and_kept(tmp_path: Path) -> None:
    path, clock = tmp_path / "zustand-ä" / "signing.key", SteppedClock()
    first = Signer.of(path, clock)
    assert Signer.of(path, clock).public == first.public
    assert Signer.of(tmp_path / "other.key", clock).public != first.public
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.public not in path.read_text()
    check_public_key(first.public)


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    Signer.of(path, SteppedClock())
    os.chmod(path, 0o644)
    with pytest.raises(Unavailable, match="others can read"):
        Signer.of(path, SteppedClock())


@pytest.mark.parametrize("content", ["", "AAAA\n", "größe"])
def test_a_file_without_a_key_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "signing.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(BadInput) as caught:
        Signer.of(path, SteppedClock())
    assert caught.value.field == str(path)


def test_every_signature_has_a_nonce_of_its_own() -> None:
    signer = Signer(b"k" * 32, SteppedClock())
    inputs = {
        signer.headers("default/ag_1", "POST", "http://a.example/", b"")["Signature-Input"]
        for _ in range(100)
    }
    assert len(inputs) == 100
