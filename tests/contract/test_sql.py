"""Statements in files: each is used, each used one is there, the server understands them all."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from chassis import sql
from testkit.databases import Databases

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for pattern in ("services/*/src/**/*.sql", "shared/*/src/**/*.sql")
    for path in ROOT.glob(pattern)
    if path.parent.name != "migrations"
)
STORES = sorted({path.parent for path in FILES if (path.parent / "migrations").is_dir()})


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def package_of(path: Path) -> Path:
    """The folder under `src` that holds it."""
    parts = path.relative_to(ROOT).parts
    return ROOT.joinpath(*parts[: parts.index("src") + 2])


def attributes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr


@pytest.mark.parametrize("path", FILES, ids=named)
def test_every_block_is_used(path: Path) -> None:
    used = {
        name
        for module in package_of(path).rglob("*.py")
        for name in attributes(ast.parse(module.read_text()))
    }
    assert not set(sql.queries(str(path)).names()) - used


@pytest.mark.parametrize("path", FILES, ids=named)
def test_every_block_that_its_module_uses_is_there(path: Path) -> None:
    tree = ast.parse(path.with_suffix(".py").read_text())
    variables = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and "queries(__file__)" in ast.unparse(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert variables, "nobody reads it"
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in variables
    }
    assert not used - {*sql.queries(str(path)).names(), "names", "source"}


@pytest.mark.parametrize("store", STORES, ids=named)
async def test_every_block_is_understood_by_the_server(
    store: Path, make_database: Databases
) -> None:
    """Prepared against the migrated schema, so no wrong name or type waits for its first use."""
    connection = await asyncpg.connect(await make_database(store / "migrations"), timeout=10)
    wrong = []
    try:
        for path in sorted(store.glob("*.sql")):
            queries = sql.queries(str(path))
            for name in queries.names():
                try:
                    await connection.prepare(getattr(queries, name))
                except asyncpg.PostgresError as error:
                    wrong.append(f"{path.name}: {name}: {error}")
    finally:
        await connection.close(timeout=5)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", sorted(ROOT.glob("services/*/src/**/migrations/*.sql")), ids=named)
def test_migrations_are_numbered_without_a_gap(path: Path) -> None:
    numbers = sorted(int(each.name[:4]) for each in path.parent.glob("*.sql"))
    assert numbers == list(range(1, len(numbers) + 1))
    assert re.fullmatch(r"\d{4}_[a-z_]+\.sql", path.name)
