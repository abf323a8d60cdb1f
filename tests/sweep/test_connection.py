"""Signals while Ray runs; test_sweep has the connection itself."""

import signal
import sys

import pytest
from messages import facts

from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.sweep.connection import _check_answers, _signals


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_is_seen_whose_handler_raises_where_python_ignores_it():
    """Ray's does while Ray starts, and a sweep that was told to stop then went on for ever."""

    class Interrupted:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def leave(number, frame):
        sys.exit(number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with _signals() as seen:
            assert signal.SIGTERM not in seen()
            Interrupted()
            assert signal.SIGTERM in seen()
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("address", ["10.0.0..1:6379", f"{'a' * 64}:6379", "127.0.0.1:99999"])
def test_an_address_that_cannot_be_is_one_line(address):
    with pytest.raises(ConfigError, match=facts(address, "ray start --head")):
        _check_answers(address)
