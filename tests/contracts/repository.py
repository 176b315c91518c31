"""What every message log, audit store, key store and token store must keep, whatever it is made of.

A test module subclasses one of these and gives the fixture `repository` (or `keys`, `tokens`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from cpa.core.audit import ActionLogged, seal, verify
from cpa.errors import BadInput, Conflict
from cpa.ports.enrolment import StoredToken, TokenStore
from cpa.ports.keys import KeyStore, Scope, StoredKey
from cpa.ports.repository import ActionLeaf, AuditFilter, AuditRepository, MessageRepository, StoredMessage

ME, OTHER = "acme", "globex"
SALT = bytes(range(16))


def message(number: int, *, conversation: str = "", job: str = "") -> StoredMessage:
    return StoredMessage(
        id=f"m{number}",
        sender="agent://web/größe",
        direction="in",
        type="inform",
        received=1000 + number,
        body=f'{{"text":"Grüße {number}"}}'.encode(),
        conversation=conversation,
        job=job,
        task="t0",
        effect="task_started",
    )


class MessageRepositoryContract:
    async def test_messages_come_back_as_given_in_order(self, repository: MessageRepository) -> None:
        given = [message(number, conversation="c1", job="j1") for number in range(5)]
        await repository.append(ME, *given[:3])
        await repository.append(ME, *given[3:])
        await repository.append(ME)
        found = await repository.list(ME, conversation="c1")
        assert [(m.id, m.body, m.sender, m.received, m.effect) for m in found] == [
            (m.id, m.body, m.sender, m.received, m.effect) for m in given
        ]
        assert [m.seq for m in found] == sorted({m.seq for m in found})
        assert await repository.list(ME, job="j1") == found

    async def test_a_reader_goes_on_after_the_last_place(self, repository: MessageRepository) -> None:
        await repository.append(ME, *(message(number, job="j1") for number in range(5)))
        first = await repository.list(ME, job="j1", limit=2)
        rest = await repository.list(ME, job="j1", after=first[-1].seq)
        assert [m.id for m in first + rest] == ["m0", "m1", "m2", "m3", "m4"]

    async def test_only_the_conversation_and_job_asked_for(self, repository: MessageRepository) -> None:
        await repository.append(
            ME,
            message(1, conversation="c1", job="j1"),
            message(2, conversation="c1", job="j2"),
            message(3, conversation="c2", job="j1"),
        )
        assert [m.id for m in await repository.list(ME, conversation="c1")] == ["m1", "m2"]
        assert [m.id for m in await repository.list(ME, job="j1")] == ["m1", "m3"]
        assert [m.id for m in await repository.list(ME, conversation="c1", job="j1")] == ["m1"]
        assert await repository.list(OTHER, job="j1") == ()

    async def test_a_question_for_everything_is_refused(self, repository: MessageRepository) -> None:
        with pytest.raises(BadInput) as caught:
            await repository.list(ME)
        assert caught.value.field == "conversation"
        with pytest.raises(BadInput):
            await repository.list(ME, job="j1", limit=0)


class AuditRepositoryContract:
    async def test_what_no_job_did_comes_back_newest_first_and_verifies(
        self, repository: AuditRepository
    ) -> None:
        for number in range(4):
            await self.log(repository, number)
        found = await repository.slice(ME, AuditFilter())
        assert [row.place[0] for row in found.rows] == [1003, 1002, 1001, 1000]
        assert found.next is None
        assert all(not row.erased and row.job == "" for row in found.rows)
        leaves = await repository.other_leaves(ME)
        assert all(verify(row.body, row.private, row.leaf) for row in leaves)
        assert [row.seq for row in leaves] == sorted(row.seq for row in leaves)
        assert (await repository.slice(OTHER, AuditFilter())).rows == ()
        assert await repository.other_leaves(OTHER) == ()

    async def test_slices_join_without_gap_or_repetition(self, repository: AuditRepository) -> None:
        for number in range(9):
            await self.log(repository, number // 3)
        for size in (1, 2, 4, 9, 20):
            seen: list[int] = []
            below: tuple[int, int, int] | None = None
            while True:
                found = await repository.slice(ME, AuditFilter(), limit=size, below=below)
                seen += [row.place[2] for row in found.rows]
                below = found.next
                if below is None:
                    break
            assert seen == sorted(seen, reverse=True)
            assert len(seen) == 9

    async def test_actor_and_time_select(self, repository: AuditRepository) -> None:
        for number in range(6):
            await self.log(repository, number, actor=f"key_{number % 2}")
        which = AuditFilter(actor="key_1", since=1002, until=1005)
        assert [row.place[0] for row in (await repository.slice(ME, which)).rows] == [1003]
        assert (await repository.slice(ME, AuditFilter(actor="key_"))).rows == ()

    @staticmethod
    async def log(repository: AuditRepository, number: int, *, actor: str = "key_1") -> None:
        event = ActionLogged(
            time=1000 + number, tenant=ME, actor=actor, action="key.created", details={"name": "Büro"}
        )
        leaf = ActionLeaf(tenant=ME, actor=actor, action="key.created", subject="", sealed=seal(event, SALT))
        await repository.append(leaf)


def key(number: int, *, tenant: str = ME, digest: bytes = b"") -> StoredKey:
    return StoredKey(
        tenant=tenant,
        id=f"key_{number}",
        name=f"Büro {number}",
        scopes=frozenset((Scope.SUBMIT, Scope.AGENT)),
        hash=digest or bytes([number]) * 32,
        created=1000 - number,
        expires=5000,
    )


class KeyStoreContract:
    async def test_a_key_is_found_by_its_hash_alone(self, keys: KeyStore) -> None:
        await keys.add(key(1))
        assert await keys.find(bytes([1]) * 32) == key(1)
        assert await keys.find(bytes([2]) * 32) is None

    async def test_a_key_is_found_by_its_id_within_its_tenant(self, keys: KeyStore) -> None:
        for each in (key(1), key(2), key(1, tenant=OTHER, digest=bytes(32))):
            await keys.add(each)
        assert await keys.get(ME, "key_1") == key(1)
        assert await keys.get(OTHER, "key_2") is None
        assert await keys.revoke(ME, "key_1", 2000)
        assert await keys.get(ME, "key_1") == replace(key(1), revoked=2000)

    async def test_ids_and_hashes_are_used_once(self, keys: KeyStore) -> None:
        await keys.add(key(1))
        for taken in (key(1, digest=bytes(32)), key(9, tenant=OTHER, digest=bytes([1]) * 32)):
            with pytest.raises(Conflict) as caught:
                await keys.add(taken)
            assert caught.value.remedy
        await keys.add(key(1, tenant=OTHER, digest=bytes(32)))
        assert await keys.list(ME) == (key(1),)

    async def test_a_tenant_lists_its_own_keys_oldest_first(self, keys: KeyStore) -> None:
        for number in (1, 2, 3):
            await keys.add(key(number))
        await keys.add(key(4, tenant=OTHER))
        assert await keys.list(ME) == (key(3), key(2), key(1))

    async def test_a_key_is_revoked_once_and_stays_known(self, keys: KeyStore) -> None:
        await keys.add(key(1))
        assert not await keys.revoke(OTHER, "key_1", 2000)
        assert not await keys.revoke(ME, "key_2", 2000)
        assert await keys.revoke(ME, "key_1", 2000)
        assert not await keys.revoke(ME, "key_1", 3000)
        found = await keys.find(bytes([1]) * 32)
        assert found is not None
        assert (found.revoked, found.active(2500)) == (2000, False)

    async def test_a_key_without_rights_can_be_kept(self, keys: KeyStore) -> None:
        bare = StoredKey(tenant=ME, id="k", name="", scopes=frozenset(), hash=bytes(32), created=1)
        await keys.add(bare)
        assert await keys.find(bytes(32)) == bare


class TokenStoreContract:
    """A test module gives the fixture `tokens`."""

    @staticmethod
    def token(id: str = "tok_1", tenant: str = ME, **more: Any) -> StoredToken:
        given: dict[str, Any] = {"hash": id.encode().ljust(32, b"-"), "created": 1_000, "uses": 2}
        return StoredToken(tenant=tenant, id=id, **given | more)

    async def test_a_token_is_used_as_often_as_it_may_be(self, tokens: TokenStore) -> None:
        token = self.token()
        await tokens.add(token)
        assert await tokens.spend(token.hash, "größe", 5) == token
        assert await tokens.spend(token.hash, "größe", 5) == replace(token, uses=1)
        assert await tokens.spend(token.hash, "größe", 5) is None
        assert await tokens.list(ME) == (replace(token, uses=0),)

    async def test_looking_for_a_token_uses_nothing(self, tokens: TokenStore) -> None:
        token = self.token(uses=1, name="größe", expires=9)
        await tokens.add(token)
        assert await tokens.find(token.hash, "größe", 8) == token
        assert await tokens.find(token.hash, "anders", 8) is None
        assert await tokens.find(token.hash, "größe", 9) is None
        assert await tokens.find(b"?" * 32, "größe", 8) is None
        assert await tokens.spend(token.hash, "größe", 8) == token
        assert await tokens.find(token.hash, "größe", 8) is None

    async def test_of_many_at_once_only_so_many_get_a_use(self, tokens: TokenStore) -> None:
        token = self.token(uses=3)
        await tokens.add(token)
        spent = await asyncio.gather(*(tokens.spend(token.hash, f"n{n}", 5) for n in range(10)))
        assert sum(each is not None for each in spent) == 3

    async def test_a_token_for_one_name_serves_no_other(self, tokens: TokenStore) -> None:
        token = self.token(name="größe")
        await tokens.add(token)
        assert await tokens.spend(token.hash, "anders", 5) is None
        assert await tokens.spend(token.hash, "größe", 5) == token

    async def test_whom_a_token_let_in_is_known_again_by_the_same_proof(self, tokens: TokenStore) -> None:
        token, other = self.token(expires=9, uses=3), self.token("tok_2")
        await tokens.add(token)
        await tokens.add(other)
        mine, foreign = b"p" * 32, b"q" * 32
        assert await tokens.enrolled(token.hash, mine, 5) is None
        await tokens.spend(token.hash, "größe", 5, mine, "ag_1")
        await tokens.spend(token.hash, "anders", 5, foreign, "ag_2")
        assert await tokens.enrolled(token.hash, mine, 5) == (ME, "ag_1")
        assert await tokens.enrolled(token.hash, foreign, 5) == (ME, "ag_2")
        assert await tokens.enrolled(other.hash, mine, 5) is None
        assert await tokens.enrolled(token.hash, b"?" * 32, 5) is None
        await tokens.spend(token.hash, "größe", 5, mine, "ag_3")
        # Used up, and still good for that.
        assert await tokens.enrolled(token.hash, mine, 8) == (ME, "ag_3")
        assert await tokens.enrolled(token.hash, mine, 9) is None
        assert await tokens.spend(token.hash, "größe", 5, b"r" * 32, "ag_4") is None
        assert await tokens.enrolled(token.hash, b"r" * 32, 5) is None
        await tokens.revoke(ME, token.id, 6)
        assert await tokens.enrolled(token.hash, mine, 7) is None

    async def test_expired_revoked_and_unknown_tokens_serve_nobody(self, tokens: TokenStore) -> None:
        expired, revoked = self.token(expires=5), self.token("tok_2")
        await tokens.add(expired)
        await tokens.add(revoked)
        assert not await tokens.revoke(OTHER, "tok_2", 4)
        assert await tokens.revoke(ME, "tok_2", 4)
        assert not await tokens.revoke(ME, "tok_2", 5)
        assert await tokens.spend(expired.hash, "a", 5) is None
        assert await tokens.spend(expired.hash, "a", 4) == expired
        assert await tokens.spend(revoked.hash, "a", 3) is None
        assert await tokens.spend(b"?" * 32, "a", 3) is None

    async def test_ids_and_hashes_are_taken_once(self, tokens: TokenStore) -> None:
        await tokens.add(self.token())
        with pytest.raises(Conflict):
            await tokens.add(self.token(hash=b"x" * 32))
        with pytest.raises(Conflict):
            await tokens.add(self.token("tok_2", tenant=OTHER, hash=self.token().hash))
        assert await tokens.list(OTHER) == ()
