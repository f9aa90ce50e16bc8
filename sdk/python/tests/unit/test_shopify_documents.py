"""What may change something: the scan of GraphQL, beside a whole parser."""

import pytest
from graphql import GraphQLError, OperationDefinitionNode, parse
from hypothesis import given
from hypothesis import strategies as st

from mainstay.shopify import graphql
from mainstay.shopify.graphql import Operation


@pytest.mark.parametrize(
    "query",
    [
        "{ shop { name } }",
        "query { shop { name } }",
        "query mutation { shop { name } }",
        "query Q($a: [I!] = {b: {c: 1}}) @d(e: {f: 1}) { shop { name } }",
        '# mutation { x }\nquery Q { shop(a: "mutation {", b: "\\"}") { name } }',
        'query { shop(a: """ mutation { " \\""" } """) { name } }',
        "fragment F on Shop { name } query { shop { ...F } }",
        "query { shop { mutation } } fragment mutation on Shop { name }",
        "\ufeff,, query,{ shop }",
    ],
)
def test_a_query_changes_nothing(query: str) -> None:
    assert not graphql.changes(query)


@pytest.mark.parametrize(
    "document",
    [
        "mutation { x }",
        "mutation Q($a: I = {b: 1}) { x }",
        "# query { x }\nmutation query { x }",
        '"""query""" mutation { x }',
        "fragment F on Shop { name } mutation { x { ...F } }",
        "subscription { x }",
        "query A { x } mutation B { y }",
        "query A { x } query B { y }",
        "fragment F on Shop { name }",
        "extend type A { b: C }",
        'query { x(a: "not closed) }',
        'query { x(a: """ not closed ") }',
        "query { x } }",
        "query { x",
        "query",
        "}",
        "",
        "κάτι",
    ],
)
def test_what_is_not_surely_a_query_may_change_something(document: str) -> None:
    assert graphql.changes(document)


def test_the_operation_that_is_named_counts() -> None:
    both = 'query A { x } mutation B($q: S = "}") { y } query { z }'
    assert graphql.operations(both) == (
        Operation("query", "A"),
        Operation("mutation", "B"),
        Operation("query", None),
    )
    assert not graphql.changes(both, "A")
    assert graphql.changes(both, "B")
    assert graphql.changes(both, "C")
    assert graphql.changes("mutation @d { x }", "d")


@given(st.text(alphabet='{}()[]"\\#\n a$@mutationqery', max_size=40))
def test_a_mutation_is_one_whatever_follows(more: str) -> None:
    assert graphql.changes("mutation { x } " + more)
    assert graphql.changes('mutation { x(a: "}") } ' + more)


@pytest.mark.timeout(5)
def test_half_a_megabyte_is_scanned_at_once() -> None:
    for hard in ('"' * 500_000, '"""' + '\\"""' * 125_000, "{" * 500_000, '""" " ' * 80_000):
        graphql.changes("query { x " + hard)


TYPES = st.sampled_from(["query", "mutation", "subscription", "query Q", "mutation query", ""])
VARIABLES = st.sampled_from(["", "($v: [Int!] = [1])", '($v: I = {a: {b: "}"}} @d)'])
DIRECTIVES = st.sampled_from(["", " @d", " @query(a: {b: 1})"])
FIELD = st.sampled_from(
    ["a", "b: a", 'a(x: "}{\\"")', 'a(x: {y: [1, "", """ { \\""" """]})', "...F", "a #}\n"]
)
BODIES = st.recursive(
    st.lists(FIELD, min_size=1, max_size=3).map(" ".join),
    lambda inner: st.builds("{0} mutation {{ {1} }}".format, FIELD, inner),
    max_leaves=4,
)
OPERATIONS = st.builds(
    lambda kind, variables, directives, body: (
        f"{kind}{(variables + directives) if kind else ''} {{ {body} }}"
    ),
    TYPES,
    VARIABLES,
    DIRECTIVES,
    BODIES,
)
FRAGMENTS = st.builds("fragment mutation on T {{ {0} }}".format, BODIES)
DOCUMENTS = st.lists(OPERATIONS | FRAGMENTS, min_size=1, max_size=3).map("\n".join)


@given(DOCUMENTS)
def test_the_scan_finds_what_a_parser_finds(document: str) -> None:
    found = [(one.kind, one.name) for one in graphql.operations(document)]
    assert found == parsed(document)


@given(DOCUMENTS, st.integers(0, 200), st.sampled_from([*'{}()[]"#\\\n', '"""', "mutation "]))
def test_no_slip_of_the_pen_makes_a_query_of_a_mutation(
    document: str, place: int, slip: str
) -> None:
    written = document[:place] + slip + document[place:]
    try:
        truth = parsed(written)
    except GraphQLError:
        return
    assert [(one.kind, one.name) for one in graphql.operations(written)] == truth


def parsed(document: str) -> list[tuple[str, str | None]]:
    return [
        (one.operation.value, one.name.value if one.name else None)
        for one in parse(document).definitions
        if isinstance(one, OperationDefinitionNode)
    ]
