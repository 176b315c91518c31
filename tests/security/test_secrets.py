"""Secrets: where they are found, what is refused, what is remembered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cpa.errors import BadInput, Forbidden, NotFound
from cpa.ports.secrets import SecretsManager
from cpa.security.secrets import EnvironmentAndFileSecrets


def store(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def test_environment_is_asked_first(tmp_path: Path) -> None:
    store(tmp_path / "portal-password", b"from file")
    environ = {"CPA_SECRET_PORTAL_PASSWORD": "from environment"}
    secrets: SecretsManager = EnvironmentAndFileSecrets(tmp_path, environ=environ)
    assert secrets.resolve("default", "portal-password") == "from environment"


def test_file_loses_one_line_end_and_nothing_else(tmp_path: Path) -> None:
    store(tmp_path / "pin", " Schlüssel 🔑 \n\n".encode())
    assert EnvironmentAndFileSecrets(tmp_path, environ={}).resolve("default", "pin") == " Schlüssel 🔑 \n"


def test_missing_secret_names_both_places(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as missing:
        EnvironmentAndFileSecrets(tmp_path, environ={}).resolve("default", "portal_password")
    remedy = missing.value.remedy or ""
    assert "CPA_SECRET_PORTAL_PASSWORD" in remedy
    assert str(tmp_path / "portal_password") in remedy


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620, 0o601])
def test_file_that_others_can_touch_is_refused_with_a_remedy(tmp_path: Path, mode: int) -> None:
    store(tmp_path / "key", b"hunter2", mode)
    with pytest.raises(Forbidden) as refused:
        EnvironmentAndFileSecrets(tmp_path, environ={}).resolve("default", "key")
    assert "chmod 600" in (refused.value.remedy or "")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "../key", "a/b", "a.b", "1key", "ä", "a b", "x" * 65, "a\n"])
def test_impossible_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="name of a secret"):
        EnvironmentAndFileSecrets(tmp_path, environ={}).resolve("default", name)


@pytest.mark.parametrize("tenant", ["", "..", "a/b", ".hidden"])
def test_impossible_tenant_is_refused(tmp_path: Path, tenant: str) -> None:
    with pytest.raises(BadInput, match="name of a tenant"):
        EnvironmentAndFileSecrets(tmp_path, environ={}).resolve(tenant, "key")


def test_tenant_sees_neither_environment_nor_files_of_another(tmp_path: Path) -> None:
    store(tmp_path / "key", b"default's")
    store(tmp_path / "acme" / "key", b"acme's")
    secrets = EnvironmentAndFileSecrets(tmp_path, environ={"CPA_SECRET_KEY": "process"})
    assert secrets.resolve("acme", "key") == "acme's"
    with pytest.raises(NotFound) as missing:
        secrets.resolve("globex", "key")
    assert "CPA_SECRET" not in (missing.value.remedy or "")
    assert secrets.known("globex") == frozenset()
    assert secrets.known("acme") == {"acme's"}


def test_tenant_folder_is_no_secret(tmp_path: Path) -> None:
    store(tmp_path / "acme" / "key", b"x")
    with pytest.raises((Forbidden, NotFound)):
        EnvironmentAndFileSecrets(tmp_path, environ={}).resolve("default", "acme")


def test_pipe_in_the_folder_does_not_hold_up_the_caller(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(Forbidden, match="regular file"):
        EnvironmentAndFileSecrets(tmp_path, environ={}).resolve("default", "key")


@pytest.mark.parametrize(
    ("content", "why"), [(b"\n", "empty"), (b"\xff\xfe", "UTF-8"), (b"x" * 70_000, "larger")]
)
def test_unusable_content_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    store(tmp_path / "key", content)
    with pytest.raises(BadInput, match=why):
        EnvironmentAndFileSecrets(tmp_path, environ={}).resolve("default", "key")


def test_rotated_value_is_used_at_once_and_the_old_one_stays_masked(tmp_path: Path) -> None:
    secrets = EnvironmentAndFileSecrets(tmp_path, environ={})
    for value in ("old", "new"):
        store(tmp_path / "key", value.encode())
        assert secrets.resolve("default", "key") == value
    assert secrets.known("default") == {"old", "new"}
