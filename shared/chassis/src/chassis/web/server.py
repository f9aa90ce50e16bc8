"""The HTTP server under an application: what it cannot even read is refused in our words too."""

from typing import Any

from aiohttp import http_exceptions, web

from chassis import logs, metrics
from chassis.kernel import errors
from chassis.web import problems, trace, ways

log = logs.get(__name__)

UNMATCHED = "unmatched"


class Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What fails before an application sees it, or behind its back; the connection is closed.
        `message` and `exc` may hold what the caller sent, so they are neither told nor logged."""
        trace.begin(request.headers.get("traceparent"))
        if status < 500:
            fault: errors.Fault = errors.Malformed(_detail(exc))
            log.info("request_unreadable", kind=type(exc).__name__)
        else:
            fault = errors.Broken("something of ours broke; it has been logged")
            log.error("request_broke", route=UNMATCHED, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("half an answer is out")
        response = problems.response(fault)
        response.headers["traceparent"] = trace.current().traceparent()
        response.force_close()
        metrics.HTTP_REQUESTS.labels("other", UNMATCHED, str(response.status)).count += 1
        return response


class Server(web.Server):
    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An application on our server."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        handler = ways.straight(self.app, made.request_handler)
        return Server(handler, request_factory=made.request_factory, **self._kwargs)


def runner(app: web.Application, **options: Any) -> Runner:
    """As every service runs it: no access log, and bodies as they came, for an encoding is refused
    by its name and what passes through is passed on."""
    return Runner(app, access_log=None, auto_decompress=False, **options)


def _detail(error: BaseException | None) -> str:
    if isinstance(error, http_exceptions.LineTooLong):
        return "the request line or a header is too long"
    if isinstance(
        error, http_exceptions.TransferEncodingError | http_exceptions.ContentLengthError
    ):
        return "the body does not end where it should"
    return "this is no HTTP request that we can read"
