"""Each word about the weather, seen from a client."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from testkit.faults import TcpProxy
from testkit.signals import eventually

SOON_S = 5.0
SILENCE_S = 0.2

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    """Before a server that answers with what it hears."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, TcpProxy("127.0.0.1", port) as proxy:
        yield proxy


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1024):
            writer.write(data)
    finally:
        writer.close()


async def dial(proxy: TcpProxy) -> Pair:
    return await asyncio.open_connection(proxy.host, proxy.port)


async def ask(pair: Pair, question: bytes) -> bytes:
    reader, writer = pair
    writer.write(question)
    async with asyncio.timeout(SOON_S):
        return await reader.readexactly(len(question))


async def hears_nothing(pair: Pair) -> bool:
    try:
        async with asyncio.timeout(SILENCE_S):
            await pair[0].read(1)
    except TimeoutError:
        return True
    return False


async def test_passes(proxy: TcpProxy) -> None:
    pair = await dial(proxy)
    assert await ask(pair, b"hello") == b"hello"
    assert proxy.accepted == 1
    pair[1].close()
    await eventually(lambda: proxy.open_connections == 0)


async def test_delays_each_way(proxy: TcpProxy) -> None:
    pair = await dial(proxy)
    loop = asyncio.get_running_loop()
    proxy.delays(0.1)
    started = loop.time()
    await ask(pair, b"hello")
    assert loop.time() - started >= 0.2
    pair[1].close()


async def test_crawls(proxy: TcpProxy) -> None:
    pair = await dial(proxy)
    loop = asyncio.get_running_loop()
    proxy.crawls(bytes_per_s=10_000)
    started = loop.time()
    await ask(pair, b"x" * 1000)
    assert loop.time() - started >= 0.2
    pair[1].close()


async def test_hangs_open_and_new_connections_until_it_passes(proxy: TcpProxy) -> None:
    old = await dial(proxy)
    await ask(old, b"a")
    proxy.hangs()
    new = await dial(proxy)
    for pair in (old, new):
        pair[1].write(b"b")
        assert await hears_nothing(pair)
    await proxy.passes()
    for pair in (old, new):
        async with asyncio.timeout(SOON_S):
            assert await pair[0].readexactly(1) == b"b"
        pair[1].close()


async def test_refuses_and_cuts_what_is_open(proxy: TcpProxy) -> None:
    old = await dial(proxy)
    await ask(old, b"a")
    await proxy.refuses()
    with pytest.raises(ConnectionResetError):
        await ask(old, b"b")
    with pytest.raises(ConnectionRefusedError):
        await dial(proxy)
    await proxy.passes()
    pair = await dial(proxy)
    assert await ask(pair, b"c") == b"c"
    for each in (old, pair):
        each[1].close()


async def test_resets_open_and_new_connections(proxy: TcpProxy) -> None:
    old = await dial(proxy)
    await ask(old, b"a")
    proxy.resets()
    new = await dial(proxy)
    for pair in (old, new):
        with pytest.raises(ConnectionResetError):
            await ask(pair, b"b")
        pair[1].close()


async def test_cut_spares_new_connections(proxy: TcpProxy) -> None:
    old = await dial(proxy)
    await ask(old, b"a")
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await ask(old, b"b")
    new = await dial(proxy)
    assert await ask(new, b"c") == b"c"
    for pair in (old, new):
        pair[1].close()


async def test_truncates_answers(proxy: TcpProxy) -> None:
    proxy.truncates(after_bytes=3)
    reader, writer = await dial(proxy)
    writer.write(b"hello")
    async with asyncio.timeout(SOON_S):
        assert await reader.read() == b"hel"
    writer.close()


def test_url_keeps_everything_but_the_address() -> None:
    proxy = TcpProxy.before("postgresql://u:p%40@127.0.0.1:5432/db?x=1")
    through = proxy.url("postgresql://u:p%40@127.0.0.1:5432/db?x=1")
    assert through == f"postgresql://u:p%40@127.0.0.1:{proxy.port}/db?x=1"
