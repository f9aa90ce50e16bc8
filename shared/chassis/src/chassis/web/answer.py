"""A whole body in one write, with fewer questions than the framework asks of any response."""

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE


class Answer(web.Response):
    """A response whose body is bytes; `web.Response` itself where a request is not the usual one:
    HTTP/1.1, to be kept open, and with a body in its answer."""

    async def _start(self, request: web.BaseRequest) -> AbstractStreamWriter:
        body = self._body
        is_usual = (
            type(body) is bytes
            and not self._must_be_empty_body
            and request.version == HttpVersion11
            and request.keep_alive
            and self._keep_alive is None
            and not (self._cookies or self._compression or self._chunked)
        )
        if not is_usual:
            return await super()._start(request)
        assert isinstance(body, bytes)
        self._req, self._keep_alive = request, True
        writer = self._payload_writer = request._payload_writer  # noqa: SLF001 - as our parent does
        headers = self._headers
        headers["Content-Length"] = str(len(body))
        headers["Date"] = rfc822_formatted_time()
        headers["Server"] = SERVER_SOFTWARE
        await request._prepare_hook(self)  # noqa: SLF001 - as our parent does
        await writer.write_headers(f"HTTP/1.1 {self._status} {self._reason}", headers)
        return writer
