"""The engine of all grants. For one session one grant is under way at a time, over all replicas;
nothing is held in the database meanwhile; and a pair is used by nobody before it is committed.

Who comes late finds it done. Who lost the lease, or finds other tokens than it began with, throws
its own away and takes what is there.
"""

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from chassis.kernel import deadline, errors
from chassis.kernel.clock import Clock
from session_service.core import audit, copying, grants, pairs, record, verdicts
from session_service.core.answers import Answer, Verdict
from session_service.core.asking import Asker
from session_service.core.copying import Copying
from session_service.core.grants import Ask, Grant, Held
from session_service.core.leasing import IN_PROGRESS, Lease
from session_service.core.ports import Granted, GrantStore, LeaseStore
from session_service.core.recent import Recent
from session_service.core.record import ShopifySession, Status
from session_service.core.sealing import Sealed, Vault

WAIT_S = 25.0
POLL_S = (0.05, 0.15)
# What is left of a token must be enough to use it.
USABLE_MS = 5_000
COMMIT_AGAIN_S = 0.2
MAX_TRIES = 20
REAUTH = "the refresh token is none any more"

OnEnd = Callable[[str, str, str], None]


class Grants:
    """`on_end(way, outcome, said)` is told of every question that was put to Shopify."""

    def __init__(
        self,
        *,
        store: GrantStore,
        leases: LeaseStore,
        asker: Asker,
        vault: Vault,
        recent: Recent,
        copies: Copying,
        clock: Clock,
        on_end: OnEnd,
    ) -> None:
        self._store = store
        self._leases = leases
        self._asker = asker
        self._vault = vault
        self._recent = recent
        self._copies = copies
        self._clock = clock
        self._on_end = on_end
        self._running: dict[tuple[str, Grant], asyncio.Task[ShopifySession]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def obtain(self, session_id: str, shop: str, grant: Grant) -> ShopifySession:
        """The session with tokens that this grant, or another one meanwhile, has brought.

        `shop` is one that may be called. An online token is stored under its own user's id; a code
        for one is obtained under any `session_id` that is the shop's. Callers who leave do not stop
        it, and those who ask the same share it.

        Raises Unavailable (`upstream_unavailable`, `refresh_in_progress`, `database_unavailable`),
        Conflict (`reauth_required`, `shop_unavailable`), Unauthenticated (`invalid_session_token`)
        and NotFound (`session_not_found`).
        """
        key = (session_id, grant)
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = _start(self._run(session_id, shop, grant))
            task.add_done_callback(lambda done: self._ended(key, done))
        try:
            async with asyncio.timeout(deadline.budget_s(WAIT_S)):
                return await asyncio.shield(task)
        except TimeoutError:
            raise _in_progress() from None

    async def close(self) -> None:
        """Answers that are on their way are waited for: to lose one costs a repeat."""
        if self._running:
            _done, pending = await asyncio.wait(list(self._running.values()), timeout=5.0)
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending)

    def _ended(self, key: tuple[str, Grant], task: asyncio.Task[ShopifySession]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()

    async def _run(self, session_id: str, shop: str, grant: Grant) -> ShopifySession:
        async with self._turn(session_id):
            if grant.is_automatic:
                settled = self._settled(await self._find(session_id), grant)
                if settled is not None:
                    return settled
            try:
                async with asyncio.timeout(WAIT_S):
                    lease, held = await self._take(session_id, grant)
            except TimeoutError:
                raise _in_progress() from None
            if lease is None:
                assert held is not None
                return held.session
            async with lease:
                return await self._grant(lease, shop, grant, held)

    def _turn(self, session_id: str) -> asyncio.Lock:
        return self._turns.setdefault(session_id, asyncio.Lock())

    async def _take(self, session_id: str, grant: Grant) -> tuple[Lease | None, Held | None]:
        """(the lease, the session under it), or (None, a session that will do)."""
        lease = Lease(self._leases, self._clock, session_id)
        while True:
            is_ours = await lease.take()
            try:
                held = await self._find(session_id)
                settled = self._settled(held, grant)
            except errors.Fault:
                if is_ours:
                    await lease.drop()
                raise
            if is_ours and settled is None:
                return lease, held
            if is_ours:
                await lease.drop()
            if settled is not None or self._can_wait(held, grant):
                return None, held
            await asyncio.sleep(random.uniform(*POLL_S))

    def _settled(self, held: Held | None, grant: Grant) -> ShopifySession | None:
        """The session, when there is nothing to do, or nothing before the back-off is over."""
        now = self._clock.now()
        if grant.is_automatic:
            if held is None:
                raise errors.NotFound("there is no such session", code="session_not_found")
            if held.session.status is not Status.ACTIVE:
                raise verdicts.reauth(REAUTH, reason=held.state.reason or "revoked")
        if grant.is_met(held, now):
            return held.session if held is not None else None
        if held is not None and self._can_wait(held, grant) and not grant.asks(held, now):
            return held.session
        until = held.state.next_attempt_at if held is not None and grant.is_automatic else None
        if held is None or until is None or until <= now:
            return None
        if self._is_usable(held, grant):
            return held.session
        if held.state.refusals or (held.state.reason or "")[:3] in ("402", "423"):
            raise verdicts.shop_unavailable("Shopify refuses tokens for this shop")
        raise verdicts.unavailable((until - now).total_seconds())

    def _can_wait(self, held: Held | None, grant: Grant) -> bool:
        return held is not None and grant.is_automatic and self._is_usable(held, grant)

    def _is_usable(self, held: Held, grant: Grant) -> bool:
        now_ms = copying.now_ms(self._clock)
        return not isinstance(grant, grants.Rejected) and held.works(now_ms, for_ms=USABLE_MS)

    async def _find(self, session_id: str) -> Held | None:
        as_of = self._clock.monotonic()
        found = await self._store.find(session_id)
        if found is None:
            return None
        session = self._vault.open(found[0])
        # Who was told of a renewal by the record does not answer with the session before it.
        self._recent.keep(session, as_of=as_of)
        return Held(session=session, state=found[1])

    async def _grant(
        self, lease: Lease, shop: str, grant: Grant, held: Held | None
    ) -> ShopifySession:
        old = held.session if held is not None else None
        answer = Answer(verdict=Verdict.DEAD, said="nothing to renew it with")
        for ask in grant.asks(held, self._clock.now()):
            try:
                answer, sent_ms = await self._asker.ask(ask, shop=shop, old=old, lease=lease)
            except errors.Unavailable:
                if held is not None and self._can_wait(held, grant):
                    return held.session
                raise
            self._on_end(ask.way, answer.verdict, answer.said)
            if answer.verdict is Verdict.GRANTED:
                return await self._commit(lease, shop, grant, ask, held, answer, sent_ms)
            if answer.verdict is not Verdict.DEAD:
                break
        if held is None or not grant.is_automatic:
            raise verdicts.fault(answer, grant)
        return await self._failed(lease, grant, held, answer)

    async def _commit(
        self,
        lease: Lease,
        shop: str,
        grant: Grant,
        ask: Ask,
        held: Held | None,
        answer: Answer,
        sent_ms: int,
    ) -> ShopifySession:
        user_id = pairs.user_of(answer.document)
        if grant.is_online != (user_id is not None):
            raise verdicts.unavailable()
        target = lease.session_id
        if user_id is not None and target != record.id_for(shop, user_id=user_id):
            target = record.id_for(shop, user_id=user_id)
            held = await self._find(target)
        for _ in range(MAX_TRIES):
            new = pairs.granted(
                ask,
                held.session if held is not None else None,
                answer.document,
                session_id=target,
                shop=shop,
                state=grant.state if isinstance(grant, grants.Code) else "",
                sent_ms=sent_ms,
            )
            stored = await self._write(lease, grant, ask, held, new, answer)
            if stored is not None:
                return stored
            there = await self._find(target)
            if there is not None and there.session.tokens.same_pair(new.tokens):
                # The database had committed it, only its answer was lost.
                return there.session
            if not _may_replace(grant, held, there) or not await lease.is_ours():
                return self._overtaken(ask, held, there)
            held = there
        raise errors.Unavailable("too many writers of one session", code="overloaded")

    def _overtaken(self, ask: Ask, began: Held | None, there: Held | None) -> ShopifySession:
        self._on_end(ask.way, "overtaken", "")
        if there is None:
            raise errors.NotFound("the session was deleted", code="session_not_found")
        if began is not None and began.session.gen == there.session.gen:
            # Whoever has the lease now is not done yet.
            raise _in_progress()
        return there.session

    async def _write(
        self,
        lease: Lease,
        grant: Grant,
        ask: Ask,
        held: Held | None,
        new: ShopifySession,
        answer: Answer,
    ) -> ShopifySession | None:
        """The session as it is stored, or None when the pair or the lease was another's."""
        sealed = self._vault.seal(new)
        is_first = held is None or held.session.tokens.is_empty
        granted = Granted(
            row=sealed,
            ends_ms=new.ends_ms,
            key_id=self._vault.key_id,
            way=ask.way,
            granted_at=answer.date,
            event=_event(new, is_first=is_first),
            is_rescoped=not is_first and _scopes(new) != _scopes(held.session if held else new),
            retired=None if held is None else self._vault.fingerprint(held.session),
        )
        is_rejection = isinstance(grant, grants.Rejected)
        rejected_at = self._clock.now() if is_rejection else None
        while True:
            try:
                version = await (
                    self._store.insert(granted, lease=lease.session_id, owner=lease.owner)
                    if held is None
                    else self._store.commit(
                        granted,
                        lease=lease.session_id,
                        owner=lease.owner,
                        rejected_at=rejected_at,
                    )
                )
                break
            except errors.Unavailable:
                # Nobody else may renew it for as long as the lease is ours, so there is time.
                lease.check()
                await asyncio.sleep(COMMIT_AGAIN_S)
        if version is None:
            return None
        await self._tell(sealed, new, gen=version, version=version)
        return replace(new, gen=version, version=version)

    async def _tell(self, row: Sealed, new: ShopifySession, *, gen: int, version: int) -> None:
        stored = replace(new, gen=gen, version=version)
        self._recent.keep(stored, as_of=self._clock.monotonic())
        await self._copies.changed(
            replace(row, gen=gen, version=version, status=str(stored.status))
        )

    async def _failed(
        self, lease: Lease, grant: Grant, held: Held, answer: Answer
    ) -> ShopifySession:
        session = held.session
        is_usable = self._is_usable(held, grant)
        later = verdicts.put_off(answer, held, self._clock.now())
        if later is None and is_usable:
            later = verdicts.at_its_end(held)
        if later is None:
            return await self._give_up(lease, grant, held, answer)
        await self._store.put_off(
            session.id,
            owner=lease.owner,
            gen=session.gen,
            is_refusal=later.is_refusal,
            until=later.until,
            reason=answer.said,
            way=grant.way,
        )
        if is_usable:
            return session
        raise verdicts.fault(answer, grant)

    async def _give_up(
        self, lease: Lease, grant: Grant, held: Held, answer: Answer
    ) -> ShopifySession:
        session = held.session
        reason = "refresh_token_dead" if answer.verdict is Verdict.DEAD else "refused"
        version = await self._store.give_up(
            session.id, owner=lease.owner, gen=session.gen, reason=reason, way=grant.way
        )
        if version is None:
            # Somebody brought other tokens meanwhile.
            there = await self._find(session.id)
            if there is not None and there.works(copying.now_ms(self._clock)):
                return there.session
            raise _in_progress()
        ended = replace(session, status=Status.REAUTH_REQUIRED)
        await self._tell(self._vault.seal(ended), ended, gen=session.gen, version=version)
        raise verdicts.reauth(REAUTH, reason=reason)


def _may_replace(grant: Grant, began: Held | None, there: Held | None) -> bool:
    """A renewal replaces the pair that it began with and no other. A grant that somebody asked for
    is newer than whatever was put meanwhile, whose refresh token becomes the previous one."""
    if began is not None and there is not None and began.session.gen == there.session.gen:
        return True
    return not grant.is_automatic


def _scopes(session: ShopifySession) -> set[str]:
    return {scope.strip() for scope in (session.scope or "").split(",")}


def _event(new: ShopifySession, *, is_first: bool) -> audit.Kind:
    if new.is_online:
        return audit.Kind.STORED
    return audit.Kind.INSTALLED if is_first else audit.Kind.REFRESHED


def _in_progress() -> errors.Unavailable:
    return errors.Unavailable(
        "the token is being renewed; repeat", code=IN_PROGRESS, retry_after_s=1.0
    )


def _start(work: Coroutine[Any, Any, ShopifySession]) -> asyncio.Task[ShopifySession]:
    """In a context of its own: it serves many, not the first caller's deadline."""
    context = contextvars.copy_context()
    context.run(deadline.bind, None)
    return asyncio.get_running_loop().create_task(work, name="grant", context=context)
