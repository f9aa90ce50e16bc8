"""Every request passes here: whose it is, what goes wrong with it, what is written down of it."""

import asyncio
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

from testkit.shopify.faults import Fault
from testkit.shopify.world import Call, Shop, Standing, World

Handler = Callable[[web.Request, Shop], Awaitable[web.StreamResponse]]
Described = Callable[[bytes, str], str]

_SAID = {
    Standing.FROZEN: "Unavailable Shop",
    Standing.FORBIDDEN: "Forbidden",
    Standing.GONE: "Not Found",
    Standing.LOCKED: "Locked",
}


class Desk:
    def __init__(self, world: World) -> None:
        self._world = world

    def at(
        self, where: str, handler: Handler, described: Described | None = None
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler behind the desk. `described(body, content type)`: the call's detail."""

        async def served(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            name = request.match_info.get("shop") or request.host.partition(":")[0]
            detail = described(body, request.content_type) if described else request.path
            call = Call(where, name.lower(), detail, body)
            self._world.calls.append(call)
            fault = self._world.faults.take(where, call.shop, detail)
            answer = await self._answer(request, handler, call, fault)
            answer.headers["Date"] = self._world.clock.http_date()
            call.status = call.status if call.status is not None else answer.status
            return answer

        return served

    async def _answer(
        self, request: web.Request, handler: Handler, call: Call, fault: Fault | None
    ) -> web.StreamResponse:
        if fault is None:
            return await self._asked(request, handler, call)
        answer: web.StreamResponse | None = None
        if fault.after:
            answer = await self._asked(request, handler, call)
        await asyncio.sleep(fault.delay_s)
        if fault.hold is not None:
            await fault.hold.wait()
        if not (fault.after or fault.cut or fault.status is not None):
            answer = await self._asked(request, handler, call)
        if fault.cut:
            call.status = 0
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        if fault.status is not None:
            return web.Response(
                status=fault.status,
                text=fault.body,
                content_type=fault.content_type,
                headers=fault.headers,
            )
        assert answer is not None
        answer.headers.update(fault.headers)
        return _without(answer, fault.drop) if fault.drop else answer

    async def _asked(
        self, request: web.Request, handler: Handler, call: Call
    ) -> web.StreamResponse:
        shop = self._world.shop(call.shop)
        if shop.standing is not Standing.OPEN:
            said = {"errors": _SAID[shop.standing]}
            return web.json_response(said, status=shop.standing)
        return await handler(request, shop)


def _without(answer: web.StreamResponse, dropped: tuple[str, ...]) -> web.Response:
    assert isinstance(answer, web.Response)
    assert isinstance(answer.body, bytes)
    said = orjson.loads(answer.body)
    kept = {name: value for name, value in said.items() if name not in dropped}
    headers = {k: v for k, v in answer.headers.items() if k.lower() != "content-type"}
    headers.pop("Content-Length", None)
    return web.json_response(kept, status=answer.status, headers=headers)
