from disentanglement_challenge.training import stopping as stopping_module
from disentanglement_challenge.training.stopping import Stop, Stopping


def test_what_comes_before_the_block_is_not_counted_against_the_time(monkeypatch):
    """Such as images on their way to a GPU."""
    now = 0.0
    monkeypatch.setattr(stopping_module.time, "monotonic", lambda: now)
    stopping = Stopping(60)
    now = 1000.0
    with stopping:
        assert stopping.reason is Stop.NO
        now = 1059.0
        assert stopping.reason is Stop.NO
        now = 1060.0
        assert stopping.reason is Stop.TIME_LIMIT
