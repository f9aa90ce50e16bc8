"""The sandbox's HTTP: Twilio's two calls, and ours to look into it and to make it misbehave."""

import asyncio
import base64
import binascii
import hmac
import secrets
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from localstack.sandbox import twilio
from localstack.sandbox.faults import Fault, Faults, Mode
from localstack.sandbox.record import Full, Message, Record

PAGE_SIZE = 50
PAGE_SIZE_MAX = 1000
THROTTLE_RETRY_AFTER_S = 1


class Sandbox:
    """One account. `sid` and `token` are what its callers must know."""

    def __init__(self, *, sid: str, token: str, record: Record) -> None:
        self._credentials = base64.b64encode(f"{sid}:{token}".encode())
        self._sid = sid
        self._record = record
        self._faults = Faults()

    def app(self) -> web.Application:
        app = web.Application()
        account = "/2010-04-01/Accounts/{account}"
        app.add_routes([
            web.post(f"{account}/Messages.json", self.create),
            web.get(f"{account}/Messages.json", self.listed),
            web.get(f"{account}/Messages/{{sid}}.json", self.show),
            web.get("/sandbox/messages", self.all),
            web.delete("/sandbox/messages", self.clear),
            web.get("/sandbox/stats", self.stats),
            web.get("/sandbox/faults", self.faults),
            web.put("/sandbox/faults", self.misbehave),
            web.get("/healthz", self.healthz),
        ])  # fmt: skip
        return app

    async def create(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refuse(request):
            return _refusal(refused)
        form = {name: str(value) for name, value in (await request.post()).items()}
        if wrong := twilio.refuse(form):
            return _refusal(wrong)
        fault = self._faults.strike()
        if fault.before_record and (answer := await _suffer(fault, request)):
            return answer
        message = twilio.resource(
            form, sid=f"SM{secrets.token_hex(16)}", account=self._sid, now=datetime.now(UTC)
        )
        try:
            self._record.append(message)
        except Full:
            return _refusal(twilio.Refusal(20507, "Full: DELETE /sandbox/messages", 507))
        if not fault.before_record and (answer := await _suffer(fault, request)):
            return answer
        return web.json_response(message, status=201)

    async def listed(self, request: web.Request) -> web.Response:
        """Newest first, as Twilio does."""
        if refused := self._refuse(request):
            return _refusal(refused)
        found = self._chosen(request.query.get("To"))[::-1]
        size = _number(request.query.get("PageSize"), PAGE_SIZE, most=PAGE_SIZE_MAX)
        page = _number(request.query.get("Page"), 0, most=10_000)
        begin = page * size
        return web.json_response(
            {"messages": found[begin : begin + size], "page": page, "page_size": size,
             "start": begin, "uri": request.path_qs}
        )  # fmt: skip

    async def show(self, request: web.Request) -> web.Response:
        if refused := self._refuse(request):
            return _refusal(refused)
        sid = request.match_info["sid"]
        for message in self._record.messages:
            if message["sid"] == sid:
                return web.json_response(message)
        return _refusal(twilio.NOT_FOUND)

    async def all(self, request: web.Request) -> web.Response:
        return web.json_response({"messages": self._chosen(request.query.get("to"))})

    async def clear(self, _request: web.Request) -> web.Response:
        return web.json_response({"deleted": self._record.clear()})

    async def stats(self, _request: web.Request) -> web.Response:
        return web.json_response(self._record.stats())

    async def faults(self, _request: web.Request) -> web.Response:
        return web.json_response(self._faults.document())

    async def misbehave(self, request: web.Request) -> web.Response:
        try:
            self._faults.put(Fault.model_validate_json(await request.read()))
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False, include_context=False)
            return web.json_response({"errors": wrong}, status=422)
        return web.json_response(self._faults.document())

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "pass", "service": "sms-sandbox"})

    def _chosen(self, to: str | None) -> list[Message]:
        return self._record.to(to) if to else list(self._record.messages)

    def _refuse(self, request: web.Request) -> twilio.Refusal | None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        try:
            said = base64.b64encode(base64.b64decode(given, validate=True))
        except (binascii.Error, ValueError):
            return twilio.UNAUTHENTICATED
        if scheme.lower() != "basic" or not hmac.compare_digest(said, self._credentials):
            return twilio.UNAUTHENTICATED
        return None if request.match_info["account"] == self._sid else twilio.NOT_FOUND


async def _suffer(fault: Fault, request: web.Request) -> web.StreamResponse | None:
    """The answer that the fault gives instead of ours, if any."""
    if fault.delay_ms:
        await asyncio.sleep(fault.delay_ms / 1000)
    match fault.mode:
        case Mode.FAIL:
            failed = twilio.Refusal(twilio.FAILED.code, twilio.FAILED.message, fault.status)
            return _refusal(failed)
        case Mode.THROTTLE:
            return _refusal(twilio.THROTTLED, {"Retry-After": str(THROTTLE_RETRY_AFTER_S)})
        case Mode.DROP:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        case _:
            return None


def _refusal(refused: twilio.Refusal, headers: dict[str, str] | None = None) -> web.Response:
    document: dict[str, Any] = refused.document()
    return web.json_response(document, status=refused.status, headers=headers)


def _number(text: str | None, default: int, *, most: int) -> int:
    return min(int(text), most) if text and text.isascii() and text.isdigit() else default
