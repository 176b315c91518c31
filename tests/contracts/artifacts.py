"""What every artifact store must keep, whatever it is made of.

A store's test module subclasses `ArtifactStoreContract` and gives two fixtures: `make_store` (a function of
the size limit that gives a fresh store) and `damage` (a function that changes stored bytes behind its back).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable

import pytest

from cpa.errors import BadInput, InternalError, NotFound, TooLarge
from cpa.ports.artifacts import ArtifactStore

MakeStore = Callable[[int], ArtifactStore]
Damage = Callable[[ArtifactStore, str, str], None]
"""(store, tenant, digest): make the stored content differ, keeping its length."""

NOWHERE = "sha256:" + "0" * 64


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


class ArtifactStoreContract:
    @pytest.fixture
    def store(self, make_store: MakeStore) -> ArtifactStore:
        return make_store(8 * 1024 * 1024)

    @pytest.mark.parametrize("content", [b"", b"x", b"Rechnung\n" * 1000, bytes(3 * 1024 * 1024 + 1)])
    async def test_bytes_come_back_as_put(self, store: ArtifactStore, content: bytes) -> None:
        artifact = await store.put("acme", content, name="a.pdf", media_type="application/pdf")
        assert artifact.digest == "sha256:" + hashlib.sha256(content).hexdigest()
        assert (artifact.size, artifact.name) == (len(content), "a.pdf")
        assert artifact.media_type == "application/pdf"
        assert await store.read("acme", artifact.digest) == content
        assert await store.stat("acme", artifact.digest) == artifact

    async def test_a_stream_is_the_same_as_its_bytes(self, store: ArtifactStore) -> None:
        parts = (b"a" * 700_000, b"", b"b" * 700_000, b"c" * 3)
        streamed = await store.put("acme", chunks(*parts))
        assert streamed == await store.put("acme", b"".join(parts))
        assert await store.read("acme", streamed.digest) == b"".join(parts)

    async def test_open_gives_chunks_of_at_most_a_mebibyte(self, store: ArtifactStore) -> None:
        artifact = await store.put("acme", b"z" * (2 * 1024 * 1024 + 5))
        sizes = [len(chunk) async for chunk in store.open("acme", artifact.digest)]
        assert sum(sizes) == artifact.size
        assert max(sizes) <= 1024 * 1024

    async def test_the_reference_keeps_the_name_of_its_own_put(self, store: ArtifactStore) -> None:
        first = await store.put("acme", b"same", name="first.txt")
        second = await store.put("acme", b"same", name="second.txt")
        assert (first.name, second.name) == ("first.txt", "second.txt")
        assert first.digest == second.digest

    async def test_same_bytes_put_at_once_by_many(self, store: ArtifactStore) -> None:
        puts = [store.put("acme", chunks(b"q" * 50_000, b"r" * 50_000)) for _ in range(12)]
        digests = {artifact.digest for artifact in await asyncio.gather(*puts)}
        assert len(digests) == 1
        assert len(await store.read("acme", digests.pop())) == 100_000

    async def test_a_tenant_sees_only_its_own(self, store: ArtifactStore) -> None:
        artifact = await store.put("acme", b"secret of acme")
        for other in ("globex", "Acme", "acme ", "äcme", "ACME"):
            with pytest.raises(NotFound):
                await store.stat(other, artifact.digest)
            with pytest.raises(NotFound):
                await store.read(other, artifact.digest)

    async def test_over_the_limit_nothing_is_left(self, make_store: MakeStore) -> None:
        store = make_store(10)
        with pytest.raises(TooLarge) as whole:
            await store.put("acme", b"x" * 11)
        assert whole.value.remedy
        with pytest.raises(TooLarge):
            await store.put("acme", chunks(b"x" * 6, b"x" * 5))
        with pytest.raises(NotFound):
            await store.stat("acme", "sha256:" + hashlib.sha256(b"x" * 11).hexdigest())
        assert (await store.put("acme", b"x" * 10)).size == 10

    async def test_a_stream_that_breaks_leaves_nothing_and_its_error_comes_out(
        self, store: ArtifactStore
    ) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"half"
            raise ConnectionResetError("gone")

        with pytest.raises(ConnectionResetError):
            await store.put("acme", broken())
        with pytest.raises(NotFound):
            await store.stat("acme", "sha256:" + hashlib.sha256(b"half").hexdigest())

    async def test_rot_is_noticed_before_the_content_looks_complete(
        self, store: ArtifactStore, damage: Damage
    ) -> None:
        artifact = await store.put("acme", b"y" * (1024 * 1024 + 7))
        damage(store, "acme", artifact.digest)
        seen: list[bytes] = []

        async def take() -> None:
            async for chunk in store.open("acme", artifact.digest):
                seen.append(chunk)

        with pytest.raises(InternalError):
            await take()
        assert sum(map(len, seen)) < artifact.size
        with pytest.raises(InternalError):
            await store.read("acme", artifact.digest)

    async def test_putting_the_original_again_mends_rot(self, store: ArtifactStore, damage: Damage) -> None:
        artifact = await store.put("acme", b"mend me")
        damage(store, "acme", artifact.digest)
        await store.put("acme", b"mend me")
        assert await store.read("acme", artifact.digest) == b"mend me"

    async def test_what_is_not_there_is_not_found(self, store: ArtifactStore) -> None:
        with pytest.raises(NotFound):
            await store.stat("acme", NOWHERE)
        with pytest.raises(NotFound):
            await anext(store.open("acme", NOWHERE))
        with pytest.raises(NotFound):
            await store.read("nobody", NOWHERE)

    @pytest.mark.parametrize(
        "digest",
        [
            *("", "x", "sha256:", "sha256:../../../../etc/passwd", "md5:" + "0" * 32),
            *(NOWHERE + "0", NOWHERE.upper(), NOWHERE[7:], NOWHERE[:-1] + "/", NOWHERE + "\n"),
        ],
    )
    async def test_what_is_no_digest_is_bad_input(self, store: ArtifactStore, digest: str) -> None:
        with pytest.raises(BadInput):
            await store.stat("acme", digest)
        with pytest.raises(BadInput):
            await anext(store.open("acme", digest))

    @pytest.mark.parametrize("tenant", ["", ".", "..", "../acme", "a/b", "a\\b", "/etc", "a\0b", "a\nb"])
    async def test_a_tenant_that_is_a_path_is_bad_input(self, store: ArtifactStore, tenant: str) -> None:
        with pytest.raises(BadInput):
            await store.put(tenant, b"x")
        with pytest.raises(BadInput):
            await store.stat(tenant, NOWHERE)

    async def test_reading_at_once_has_its_own_limit(self, store: ArtifactStore) -> None:
        artifact = await store.put("acme", b"12345")
        with pytest.raises(TooLarge):
            await store.read("acme", artifact.digest, limit=4)
        assert await store.read("acme", artifact.digest, limit=5) == b"12345"

    @pytest.mark.parametrize(
        ("hostile", "harmless"),
        [
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\x\\Überweisung.pdf", "Überweisung.pdf"),
            ("rechnung\u202efdp.exe", "rechnungfdp.exe"),
            ("a\r\nSet-Cookie: x.pdf", "aSet-Cookie_ x.pdf"),
            ("CON.txt", "_CON.txt"),
            ("nul", "_nul"),
            ("..", "file"),
            ("", "file"),
            ("trailing. . ", "trailing"),
            ('q<>:"|?*.pdf', "q_______.pdf"),
            ("\udc80.pdf", "?.pdf".replace("?", "_")),
        ],
    )
    async def test_a_hostile_name_is_made_harmless(
        self, store: ArtifactStore, hostile: str, harmless: str
    ) -> None:
        assert (await store.put("acme", b"x", name=hostile)).name == harmless

    async def test_a_long_name_is_cut_between_characters_and_keeps_its_extension(
        self, store: ArtifactStore
    ) -> None:
        name = (await store.put("acme", b"x", name="ü" * 300 + ".pdf")).name
        assert name.endswith("ü.pdf")
        assert 250 <= len(name.encode()) <= 255

    async def test_a_media_type_that_is_none_is_octets(self, store: ArtifactStore) -> None:
        assert (await store.put("acme", b"1", media_type="Text/HTML; charset=x")).media_type == "text/html"
        for wrong in ("", "pdf", "a/b\r\nX: y", "../x"):
            artifact = await store.put("acme", b"1", media_type=wrong)
            assert artifact.media_type == "application/octet-stream"
