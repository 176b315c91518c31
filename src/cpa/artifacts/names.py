"""What an artifact, its tenant and its file may be called; the same for every store."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from cpa.errors import BadInput

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,99}/[a-z0-9][a-z0-9!#$&^_.+-]{0,99}")
WINDOWS_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|\s*$)")


def check_tenant(tenant: str) -> None:
    """`BadInput` for what would mean another folder."""
    if not tenant or tenant in {".", ".."} or any(c in "/\\" or ord(c) < 32 for c in tenant):
        raise BadInput(
            "A tenant's name must not be empty or hold path separators or control characters.",
            field="tenant",
            value=tenant,
        )


def check_digest(digest: str) -> None:
    """`BadInput` for what is none."""
    if not _DIGEST.fullmatch(digest):
        raise BadInput(
            "This is no artifact digest.",
            field="artifact",
            value=digest,
            remedy="Give `sha256:` and 64 lower-case hexadecimal digits.",
        )


def safe_name(name: str) -> str:
    """A file name harmless on every system: no folders, control or direction marks, Windows devices or
    forbidden characters; at most 255 bytes of UTF-8, the extension kept. Never empty."""
    text = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())
    text = PurePosixPath(text.replace("\\", "/")).name
    text = "".join(c for c in text if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
    text = re.sub(r'[<>:"|?*]', "_", text).strip().rstrip(". ")
    if text in {"", ".", ".."}:
        return "file"
    if WINDOWS_DEVICE.match(text):
        text = "_" + text
    return _shortened(text)


def safe_media_type(media_type: str) -> str:
    """`type/subtype` in lower case, without parameters; what is none becomes `application/octet-stream`."""
    essence = media_type.split(";", 1)[0].strip().lower()
    return essence if _MEDIA_TYPE.fullmatch(essence) else "application/octet-stream"


def _shortened(name: str, limit: int = 255) -> str:
    if len(name.encode()) <= limit:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension.encode()) > 20:
        stem, extension = name, ""
    tail = dot + extension if extension else ""
    return stem.encode()[: limit - len(tail.encode())].decode(errors="ignore").rstrip() + tail
