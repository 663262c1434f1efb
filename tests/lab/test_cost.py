"""What a command costs, in what can be counted: no time is measured here.

Times are tests/bench's. What is asked, sent and read depends on what changes,
never on how much is there, as long as nobody else commits.
"""

import pytest

from cost import address, cost
from guard import TABLES

FEW, MANY = 1, 10000
# 33 were counted here; other kernels may be asked more.
MOST_SENT = 60
# An element of a set of IPv4 addresses, as netlink has it: three headers of
# attributes and the address; and what there is besides, a head a message.
ELEMENT_BYTES, HEADS = 16, 1.1


@pytest.fixture
def cost_of(guard):
    """cost_of(count, verb): with so many resolvers in the file."""
    def measure(count, *argv):
        guard.configure("fragments = drop\n" + "".join(
            f"resolver = {address(n)}\n" for n in range(count)))
        return cost(guard, *argv)

    return measure


def assert_no_more(few, many):
    """Among many no more is asked and read than among few: of large sets each
    family's table has one, which is asked for where it is small."""
    assert few.sent["sendmsg"] == many.sent["sendmsg"]
    assert many.sent["sendto"] <= few.sent["sendto"]
    # A set's description is longer by its size.
    assert many.received < few.received * HEADS


def test_raising_it(guard, cost_of, record_property):
    """One transaction by one call, however large; its bytes are the elements'."""
    found = {}
    for count in FEW, MANY:
        found[count] = cost_of(count, "enable", "--no-watch")
        guard.disable()
    few, many = found[FEW], found[MANY]
    record_property("sent", few.sent)
    record_property("bytes", few.transactions + many.transactions)
    assert len(few.transactions) == len(many.transactions) == 1
    assert_no_more(few, many)
    assert few.calls["fsync"] == many.calls["fsync"]
    assert sum(few.sent.values()) < MOST_SENT, few.sent
    more = many.transactions[0] - few.transactions[0]
    elements = len(TABLES) * (MANY - FEW)
    assert elements < more / ELEMENT_BYTES < elements * HEADS


def change_one(guard, cost_of, count, meddle=None):
    cost_of(count, "enable", "--no-watch")
    if meddle:
        guard.namespace.nft(meddle)
    cost = cost_of(count + 1, "reload")
    guard.disable()
    return cost


def test_changing_one(guard, cost_of, record_property):
    """In a list of 10,000 the same is sent as in a list of one, and no more read."""
    few, many = (change_one(guard, cost_of, n) for n in (FEW, MANY))
    record_property("received", [few.received, many.received])
    assert few.transactions == many.transactions
    assert len(few.transactions) == 1
    assert_no_more(few, many)


def test_changing_one_where_others_commit(guard, cost_of, record_property):
    """The control: whoever commits meanwhile, and be it in a table of their own,
    has everything read once."""
    quiet, found = (change_one(guard, cost_of, MANY, meddle)
                    for meddle in (None, "add table inet others; delete table inet others"))
    record_property("received", [quiet.received, found.received])
    dumps = ((found.received - quiet.received) / ELEMENT_BYTES
             / (len(TABLES) * MANY))
    assert 1 < dumps < HEADS, "as it was, and not again"
    assert found.transactions == quiet.transactions
