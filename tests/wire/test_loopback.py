"""The guard in conftest.py does guard."""

import socket

import pytest


def test_a_test_that_leaves_this_machine_fails():
    with pytest.raises(AssertionError, match="connects to"):
        socket.create_connection(("192.0.2.1", 9), timeout=0.01)
