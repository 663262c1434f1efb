"""The matrix without masquerading, so without conntrack on the host: the LAN's
own addresses are on the wire."""

import pytest

import labnet
from test_matrix import report, run_states


@pytest.fixture(scope="module")
def lab():
    with labnet.Lab(masquerade=False) as made:
        yield made


def test_matrix_plain(lab, guard, make_tunnel):
    found = run_states(lab, guard, make_tunnel("veth"))
    assert not found, report(found)
