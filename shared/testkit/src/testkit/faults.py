"""A bad network on demand: a TCP proxy to put before a server. (To stop, freeze or kill the server
itself: `localstack.servers`.)"""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from localstack.servers import ports

CHUNK_BYTES = 65_536
CONNECT_TIMEOUT_S = 5.0
RST_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to connections. `truncate_after` counts bytes of answers per connection."""

    latency_s: float = 0.0
    bytes_per_s: float | None = None
    is_silent: bool = False
    is_resetting: bool = False
    truncate_after: int | None = None


CLEAR = Weather()


@dataclass(slots=True, eq=False)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    answered_bytes: int = 0
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        for writer in filter(None, (self.client, self.server)):
            _reset(writer)

    def close(self) -> None:
        for writer in filter(None, (self.client, self.server)):
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    with suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
    writer.transport.abort()


class TcpProxy:
    """`async with TcpProxy(host, port) as proxy`: connect to `proxy.port` instead.

    Each word about the weather holds for open and new connections until the next one.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.host = "127.0.0.1"
        self.port = ports.free_port()
        self.accepted = 0
        self._weather = CLEAR
        self._changed = asyncio.Event()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @classmethod
    def before(cls, url: str) -> Self:
        """In front of the server of a URL or DSN."""
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise ValueError("a URL with host and port is needed")
        return cls(parts.hostname, parts.port)

    def url(self, original: str) -> str:
        """The same URL, through the proxy."""
        parts = urlsplit(original)
        credentials, at, _address = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{self.host}:{self.port}"))

    @property
    def open_connections(self) -> int:
        return len(self._links)

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close_listener()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def passes(self) -> None:
        """All is well again. What was held back flows on; a closed port opens."""
        self._set(CLEAR)
        await self._listen()

    def delays(self, latency_s: float) -> None:
        """Each piece of data waits this long, each way."""
        self._set(replace(CLEAR, latency_s=latency_s))

    def crawls(self, bytes_per_s: float) -> None:
        """A thin line, each way."""
        self._set(replace(CLEAR, bytes_per_s=bytes_per_s))

    def hangs(self) -> None:
        """Half open: connections stay, and new ones are taken, but nothing comes through."""
        self._set(replace(CLEAR, is_silent=True))

    def resets(self) -> None:
        """Open connections are reset, new ones are taken and reset."""
        self._set(replace(CLEAR, is_resetting=True))
        self.cut()

    def truncates(self, after_bytes: int) -> None:
        """Answers end after so many bytes of each new connection, and with them the connection."""
        self._set(replace(CLEAR, truncate_after=after_bytes))

    async def refuses(self) -> None:
        """Nobody listens: connection refused. Open connections are reset, and so is one that was
        taken just before the end."""
        await self._close_listener()
        self.resets()

    def cut(self) -> None:
        """Reset what is open now; new connections are as the weather says."""
        for link in list(self._links):
            link.reset()
        for task in self._tasks:
            task.cancel()

    def _set(self, weather: Weather) -> None:
        self._weather = weather
        self._changed.set()
        self._changed = asyncio.Event()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)

    async def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._serve(reader, writer), name="tcp-proxy")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            await self._until_audible()
            if self._weather.is_resetting:
                link.reset()
                return
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                upstream, link.server = await asyncio.open_connection(*self._target)
            await self._pump_both(link, reader, upstream)
        except (OSError, TimeoutError):
            link.reset()
        finally:
            self._links.discard(link)
            link.close()

    async def _pump_both(
        self, link: _Link, reader: asyncio.StreamReader, upstream: asyncio.StreamReader
    ) -> None:
        """Until either side has ended: none of our protocols uses a half-closed connection."""
        assert link.server is not None
        link.pumps = [
            asyncio.create_task(self._pump(reader, link.server, None)),
            asyncio.create_task(self._pump(upstream, link.client, link)),
        ]
        try:
            await asyncio.wait(link.pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in link.pumps:
                pump.cancel()
            await asyncio.gather(*link.pumps, return_exceptions=True)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: _Link | None
    ) -> None:
        while data := await source.read(CHUNK_BYTES):
            await self._until_audible()
            await self._hold_back(len(data))
            await self._until_audible()
            if answers is not None and not self._fits(answers, data, sink):
                return
            sink.write(data)
            await sink.drain()
        await self._until_audible()  # an end travels no better than data

    async def _hold_back(self, size: int) -> None:
        pause_s = self._weather.latency_s
        if self._weather.bytes_per_s:
            pause_s += size / self._weather.bytes_per_s
        changed = self._changed
        if pause_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await changed.wait()

    def _fits(self, link: _Link, data: bytes, sink: asyncio.StreamWriter) -> bool:
        limit = self._weather.truncate_after
        left = None if limit is None else limit - link.answered_bytes
        link.answered_bytes += len(data)
        if left is None or len(data) <= left:
            return True
        sink.write(data[: max(left, 0)])
        return False

    async def _until_audible(self) -> None:
        while self._weather.is_silent:
            await self._changed.wait()
