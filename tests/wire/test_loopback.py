"""The guard in conftest.py does guard."""

import socket

import pytest


def test_a_test_that_leaves_this_machine_fails():
    with socket.socket() as opened, pytest.raises(AssertionError, match="connects to"):
        opened.connect(("192.0.2.1", 9))
