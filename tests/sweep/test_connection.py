"""Signals while Ray runs; test_sweep has the connection itself."""

import signal

import pytest
from messages import facts

from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.sweep.connection import _check_answers, _signals_wait


class Handled(Exception):
    """What the handler of these tests raises."""


@pytest.fixture
def raising():
    """SIGTERM has a handler that raises."""

    def handler(number, frame):
        raise Handled(signal.Signals(number).name)

    before = signal.signal(signal.SIGTERM, handler)
    yield handler
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, Handled), (signal.SIGINT, KeyboardInterrupt)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_waits_for_the_next_call_or_the_end(raising, number, error):
    """Raised while Ray started, an exception left an object whose destructor waited for ever."""
    done = []
    with pytest.raises(error), _signals_wait() as handle_signals:
        handle_signals()
        signal.raise_signal(number)
        done.append("the frame that it came in")
        handle_signals()
        done.append("more")
    with pytest.raises(error), _signals_wait():
        signal.raise_signal(number)
        done.append("the block")
    assert done == ["the frame that it came in", "the block"]
    assert signal.getsignal(signal.SIGTERM) is raising
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_waits_though_another_handler_was_set(raising):
    """As Ray's core does."""
    with pytest.raises(Handled), _signals_wait() as handle_signals:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        handle_signals()
        signal.raise_signal(signal.SIGTERM)
        handle_signals()


def test_an_ignored_signal_stays_ignored(raising):
    """Ctrl-C is, in what a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _signals_wait() as handle_signals:
            signal.raise_signal(signal.SIGINT)
            handle_signals()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("address", ["10.0.0..1:6379", f"{'a' * 64}:6379", "127.0.0.1:99999"])
def test_an_address_that_cannot_be_is_one_line(address):
    with pytest.raises(ConfigError, match=facts(address, "ray start --head")):
        _check_answers(address)
