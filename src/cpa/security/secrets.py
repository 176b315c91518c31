"""Secrets from the environment and from files, behind `ports.secrets`.

Where a secret is looked for, in this order:

1. environment variable `CPA_SECRET_<NAME>` (upper case, `-` as `_`), for the tenant `default` only: an
   environment belongs to the process, and a name that could mean two tenants' secrets must not exist;
2. file `<folder>/<name>`, or `<folder>/<tenant>/<name>` for every other tenant.

A file that group or others can read is refused, not read: a secret that leaked through its mode is no secret.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from cpa.errors import BadInput, Forbidden, NotFound

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DEFAULT_TENANT = "default"
_MAX_BYTES = 64 * 1024


class EnvironmentAndFileSecrets:
    """Resolves names of secrets; remembers every value it gave out so that it can be masked.

    One line feed (or CR LF) at the end of a file is not part of the value; everything else is. Values are
    read anew at each call: a rotated secret is used at once, and the old value stays masked.
    """

    def __init__(self, folder: Path, *, environ: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._environ = os.environ if environ is None else environ
        self._known: dict[str, set[str]] = {}

    def resolve(self, tenant: str, name: str) -> str:
        """The value. `BadInput` for an impossible name, `Forbidden` for a file others can read, `NotFound`
        naming the places where it can be set; no message ever holds a value."""
        path = self._path(tenant, name)
        variable = f"CPA_SECRET_{name.upper().replace('-', '_')}" if tenant == _DEFAULT_TENANT else ""
        value = self._environ.get(variable, "") if variable else ""
        if not value:
            value = self._read(path, name, variable)
        self._known.setdefault(tenant, set()).add(value)
        return value

    def known(self, tenant: str) -> frozenset[str]:
        """Every value handed out to this tenant since the start."""
        return frozenset(self._known.get(tenant, ()))

    def _path(self, tenant: str, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise BadInput(
                "not a name of a secret",
                field="secret",
                value=name,
                remedy="a name is a letter, then up to 63 letters, digits, '_' or '-'",
            )
        if not _TENANT.fullmatch(tenant):
            raise BadInput("not a name of a tenant", field="tenant", value=tenant)
        return self._folder / name if tenant == _DEFAULT_TENANT else self._folder / tenant / name

    def _read(self, path: Path, name: str, variable: str) -> str:
        remedy = f"set the file {path} (mode 0600)"
        if variable:
            remedy = f"set the environment variable {variable} or the file {path} (mode 0600)"
        try:
            # Non-blocking, so that a pipe left in the folder cannot hold up the caller.
            descriptor = os.open(
                path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
            )
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(
                f"the secret '{name}' is not set", field="secret", value=name, remedy=remedy
            ) from None
        except OSError as error:
            raise Forbidden(
                f"the secret '{name}' cannot be read: {error.strerror}",
                field="secret",
                value=name,
                remedy=f"make {path} a file of the user that runs the scheduler",
            ) from None
        try:
            self._check(os.fstat(descriptor), path, name)
            content = _read_at_most(descriptor, _MAX_BYTES + 1)
        finally:
            os.close(descriptor)
        return _decode(content, path, name)

    @staticmethod
    def _check(status: os.stat_result, path: Path, name: str) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise Forbidden(
                f"the secret '{name}' is not a regular file",
                field="secret",
                value=name,
                remedy=f"make {path} a plain file that holds the value",
            )
        if os.name == "posix" and status.st_mode & 0o077:
            raise Forbidden(
                f"the secret '{name}' can be read by others (mode {stat.S_IMODE(status.st_mode):04o})",
                field="secret",
                value=name,
                remedy=f"run: chmod 600 {path}; and replace the secret if others had access to it",
            )


def _read_at_most(descriptor: int, limit: int) -> bytes:
    content = b""
    while len(content) < limit and (chunk := os.read(descriptor, limit - len(content))):
        content += chunk
    return content


def _decode(content: bytes, path: Path, name: str) -> str:
    if len(content) > _MAX_BYTES:
        raise BadInput(f"the secret '{name}' is larger than {_MAX_BYTES} bytes", field="secret", value=name)
    try:
        value = content.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput(
            f"the secret '{name}' is not UTF-8 text",
            field="secret",
            value=name,
            remedy=f"store text in {path}",
        ) from None
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise BadInput(
            f"the secret '{name}' is empty", field="secret", value=name, remedy=f"write the value into {path}"
        )
    return value
