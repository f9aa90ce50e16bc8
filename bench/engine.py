"""Claim and settle without a worker around it: what the statement itself can do."""

import time

import asyncpg

from bench import bare, load, ours
from localstack.servers.postgres import PostgresServer


async def engine(server: PostgresServer, jobs: int) -> None:
    table = load.Table()
    limit = await _bare(server, jobs)
    table.line("claim and settle, no worker", await _ours(server, jobs), limit)


async def _bare(server: PostgresServer, jobs: int) -> load.Rate:
    connection = await asyncpg.connect(await _fresh_database(server, "bare"))
    await connection.execute(bare.SCHEMA)
    await bare.fill(connection, jobs)
    started = time.perf_counter()
    done = await bare.drain(connection)
    took_s = time.perf_counter() - started
    await connection.close()
    return _all(done, jobs, took_s)


async def _ours(server: PostgresServer, jobs: int) -> load.Rate:
    dsn = await _fresh_database(server, "ours")
    await ours.prepare(dsn)
    await ours.fill(dsn, jobs)
    started = time.perf_counter()
    done = await ours.drain(dsn)
    return _all(done, jobs, time.perf_counter() - started)


def _all(done: int, jobs: int, took_s: float) -> load.Rate:
    if done != jobs:
        raise load.LoadError(f"{done} of {jobs} jobs were done")
    return load.Rate(done / took_s)


async def _fresh_database(server: PostgresServer, name: str) -> str:
    connection = await asyncpg.connect(server.url)
    await connection.execute(f'drop database if exists "{name}" with (force)')
    await connection.execute(f'create database "{name}"')
    await connection.close()
    return server.database_url(name)
