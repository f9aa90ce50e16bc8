"""A link lets go of the connection that is meant, however late it is told."""

import pytest

from chassis import rabbit
from chassis.kernel import errors


async def test_giving_up_ends_the_connection_of_now_at_once() -> None:
    link = rabbit.Link("amqp://127.0.0.1:1/", purpose="test")
    give_up = link.letting_go()
    link.up.set()
    give_up("any", "reason")
    assert not link.up.is_set()
    assert link._gone.is_set()


async def test_a_late_word_about_an_old_connection_leaves_the_new_one_alone() -> None:
    link = rabbit.Link("amqp://127.0.0.1:1/", purpose="test")
    give_up = link.letting_go()
    link._gone = type(link._gone)()
    link.up.set()
    give_up()
    assert link.up.is_set()
    assert not link._gone.is_set()


async def test_nothing_is_promised_before_the_first_connection() -> None:
    publisher = rabbit.Publisher("amqp://127.0.0.1:1/", purpose="test")
    with pytest.raises(errors.Unavailable):
        await publisher.publish(b"", exchange="e", routing_key="k", message_id="1")
