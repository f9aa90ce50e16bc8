"""The bus in one place: every queue is reachable, and what was promised is not thrown away."""

import pytest

from contracts import commands, topology
from contracts.topology import Queue

EXCHANGES = {exchange.name for exchange in topology.EXCHANGES}


def test_names_are_unique_and_carry_a_version() -> None:
    names = [queue.name for queue in topology.QUEUES]
    assert len(set(names)) == len(names)
    assert all(name.rpartition(".v")[2].isdigit() for name in names)


@pytest.mark.parametrize("queue", topology.QUEUES, ids=lambda queue: queue.name)
def test_every_queue_is_bound_to_an_exchange_that_is_declared(queue: Queue) -> None:
    assert queue.exchange in EXCHANGES
    assert queue.keys


def test_accepted_jobs_are_kept_by_several_nodes_and_never_dropped() -> None:
    arguments = topology.JOB_ACCEPT.arguments
    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-overflow"] == "reject-publish"
    assert arguments["x-delivery-limit"] >= 1_000_000
    assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert topology.JOB_ACCEPT.keys == (commands.ACCEPT_JOBS,)


def test_dead_letters_have_a_home() -> None:
    assert topology.DEAD_LETTERS.exchange == topology.DEAD
    for queue in topology.QUEUES:
        assert queue.arguments.get("x-dead-letter-exchange", topology.DEAD) in EXCHANGES
