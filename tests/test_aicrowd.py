"""Events with a real Redis server that records them, is slow, dies, or does not exist."""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import pytest
import redis
from conftest import installed
from test_run import TINY, start

from disentanglement_challenge import aicrowd
from disentanglement_challenge.aicrowd import EvaluatorEvents, reported_execution

CHANNEL = "AICROWD_REDIS_COMMUNICATION_CHANNEL"
WARNING = "events do not reach the evaluator"


def free_port():
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


class Server:
    """A redis-server process, on a free port unless one is given."""

    def __init__(self, folder, *settings, port=None):
        self.password = settings[settings.index("--requirepass") + 1] if "--requirepass" in settings else None
        while True:
            self.port = port or free_port()
            command = [
                installed("redis-server"),
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                *settings,
            ]
            self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
            self.client = redis.Redis(port=self.port, password=self.password)
            while self.process.poll() is None:
                try:
                    if self.client.info("server")["process_id"] == self.process.pid:
                        return
                except redis.exceptions.ConnectionError:
                    time.sleep(0.01)
            # Another process took the port in the meantime.
            assert port is None, f"redis-server ended with {self.process.returncode}"

    @property
    def environment(self):
        return {"AICROWD_IS_GRADING": "True", "AICROWD_REDIS_HOST": "127.0.0.1", "AICROWD_REDIS_PORT": str(self.port)}

    def events(self):
        """Return the recorded events, oldest first."""
        return [json.loads(event) for event in reversed(self.client.lrange(CHANNEL, 0, -1))]

    def kinds(self):
        return [event["payload"]["event_type"].removeprefix("disentanglement_challenge:") for event in self.events()]

    def wait_for(self, number):
        """Wait until this number of events has been recorded."""
        for _ in range(3000):
            if self.client.llen(CHANNEL) >= number:
                return
            time.sleep(0.01)
        raise AssertionError(f"{self.client.llen(CHANNEL)} of {number} events")

    def kill(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@contextmanager
def server(folder, *settings, port=None):
    running = Server(folder, *settings, port=port)
    try:
        yield running
    finally:
        running.client.close()
        running.kill()


@pytest.fixture
def redis_server(tmp_path):
    with server(tmp_path) as running:
        yield running


@pytest.fixture
def grading(monkeypatch):
    """Return a function that sets the evaluator's environment for this process, with a short patience."""

    def set_environment(port, **settings):
        monkeypatch.setattr(aicrowd, "PATIENCE", 0.2)
        environment = {"AICROWD_IS_GRADING": "True", "AICROWD_REDIS_HOST": "127.0.0.1", "AICROWD_REDIS_PORT": port}
        for name, value in {**environment, **settings}.items():
            monkeypatch.setenv(name, str(value))

    return set_environment


def training(tmp_path, embedded_data_path, environment, steps, *bindings):
    return start(
        "train_pytorch.py",
        bindings=[*TINY, f"model.training_steps = {steps}", *bindings],
        AICROWD_OUTPUT_PATH=tmp_path,
        DISENTANGLEMENT_LIB_DATA=embedded_data_path,
        **environment,
    )


def finish(process):
    """Return the run's warnings; the timeout is longer than any run, but not than a library that waits for ever."""
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "trained to step" in stdout
    return stderr


@pytest.mark.processes
def test_a_run_is_recorded_from_its_start_to_its_end(tmp_path, embedded_data_path, redis_server):
    environment = {**redis_server.environment, "AICROWD_AGENT_ID": "agent"}
    stderr = finish(training(tmp_path, embedded_data_path, environment, 250))
    assert WARNING not in stderr
    events = redis_server.events()
    assert redis_server.kinds() == ["execution_started", *["register_progress"] * 4, "submit"]
    progress = [event["payload"]["training_progress"] for event in events[1:-1]]
    assert progress == [0, 0.4, 0.8, 1]
    assert {event["agent_id"] for event in events} == {"agent"}
    assert {event["event_type"] for event in events[:-1]} == {"AICROWD_EVENT_INFO"}
    assert events[-1]["event_type"] == "AICROWD_EVENT_SUCCESS"


@pytest.mark.processes
def test_a_run_that_fails_says_why(tmp_path, embedded_data_path, redis_server):
    process = training(tmp_path, embedded_data_path, redis_server.environment, 3, "encoder.num_latents = 3")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert redis_server.kinds() == ["execution_started", "execution_error"]
    error = redis_server.events()[-1]
    assert error["event_type"] == "AICROWD_EVENT_ERROR"
    assert stderr == f"error: {error['payload']['error']}\n"
    assert "did you mean 'num_latent'" in error["payload"]["error"]


@pytest.mark.processes
def test_a_server_that_stopped_answering_holds_no_run_up(tmp_path, embedded_data_path, redis_server):
    """The kernel accepts connections, but the server never answers; the run must end anyway."""
    redis_server.process.send_signal(signal.SIGSTOP)
    stderr = finish(training(tmp_path, embedded_data_path, redis_server.environment, 3))
    assert stderr.count(WARNING) == 1, stderr
    assert f"127.0.0.1:{redis_server.port}" in stderr


@pytest.mark.processes
def test_a_server_that_is_killed_in_the_middle_stops_no_run(tmp_path, embedded_data_path, redis_server):
    # On a machine of any speed, it trains for this long after the start event.
    process = training(tmp_path, embedded_data_path, redis_server.environment, 10**6, "model.time_limit = 3")
    redis_server.wait_for(2)
    redis_server.kill()
    assert process.poll() is None
    assert finish(process).count(WARNING) == 1
    assert (tmp_path / "experiment_name" / "representation" / "pytorch_model.pt").exists()


def test_where_there_is_no_server(grading, caplog):
    with closing(socket.socket()) as taken:  # bound but not listening
        taken.bind(("127.0.0.1", 0))
        grading(taken.getsockname()[1])
        with reported_execution() as on_progress:
            on_progress(0.0)
    assert caplog.text.count(WARNING) == 1


def test_an_address_that_never_answers(grading, caplog):
    with closing(socket.create_server(("127.0.0.1", 0))) as black_hole:
        grading(black_hole.getsockname()[1])
        with reported_execution() as on_progress:
            on_progress(0.0)
            time.sleep(0.3)
            on_progress(1.0)
        assert caplog.text.count(WARNING) == 1


@pytest.mark.processes
def test_a_server_that_was_slow_gets_the_events_in_order(grading, redis_server):
    grading(redis_server.port)
    redis_server.process.send_signal(signal.SIGSTOP)
    events = EvaluatorEvents()
    events.execution_start()
    for percent in range(101):
        events.register_progress(percent / 100)
    events.submit()
    events.close()
    redis_server.process.send_signal(signal.SIGCONT)
    redis_server.wait_for(3)
    # Later events replace progress that was not delivered.
    assert redis_server.kinds() == ["execution_started", "register_progress", "submit"]
    assert redis_server.events()[1]["payload"]["training_progress"] == 1


def test_a_server_that_comes_back_gets_what_it_missed(grading, tmp_path):
    with server(tmp_path) as first:
        grading(first.port)
        events = EvaluatorEvents()
        events.execution_start()
        first.wait_for(1)
    events.register_progress(0.5)
    events.submit()
    events.close()
    with server(tmp_path, port=first.port) as second:
        second.wait_for(2)
        assert second.kinds() == ["register_progress", "submit"]


def test_a_connection_that_broke_without_a_word_is_given_up(grading):
    """The library does not use its own timeouts; with them, a missing answer is an error and the event is repeated."""
    with closing(socket.create_server(("127.0.0.1", 0))) as black_hole:
        black_hole.settimeout(60)
        grading(black_hole.getsockname()[1], REDIS_SOCKET_TIMEOUT="0.1")
        EvaluatorEvents().execution_start()
        with closing(black_hole.accept()[0]), closing(black_hole.accept()[0]):
            pass  # the second connection was made while the first one was still open


@pytest.mark.parametrize("settings", [("--rename-command", "HELLO", ""), ("--requirepass", "secret")])
def test_an_older_server_and_one_with_a_password(grading, tmp_path, settings):
    """Redis 5, which the challenge used, does not have HELLO."""
    with server(tmp_path, *settings) as running:
        grading(running.port, **({"AICROWD_REDIS_PASSWORD": "secret"} if running.password else {}))
        with reported_execution():
            pass
        running.wait_for(2)
        assert running.kinds() == ["execution_started", "submit"]


def test_a_setting_that_cannot_be_read_stops_nothing(grading, caplog):
    grading(6379, REDIS_SOCKET_TIMEOUT="soon")
    with reported_execution() as on_progress:
        on_progress(0.5)
    assert re.search(r"evaluator.*'soon'", caplog.text)


def test_off_the_evaluator_events_are_logged_and_nothing_is_imported(monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger=aicrowd.__name__)
    monkeypatch.delenv("AICROWD_IS_GRADING", raising=False)
    with pytest.raises(ValueError, match="why"), reported_execution() as on_progress:
        on_progress(0.25)
        raise ValueError("why\nand more")
    kinds = ["execution_started", "register_progress", "execution_error"]
    assert [record.args[1]["event_type"] for record in caplog.records] == [
        f"disentanglement_challenge:{kind}" for kind in kinds
    ]
    assert caplog.records[-1].args[1]["error"] == "why"


@pytest.mark.processes
def test_only_one_of_several_processes_reports(grading, redis_server):
    grading(redis_server.port)
    with reported_execution(to_evaluator=False) as on_progress:
        on_progress(0.5)
    assert redis_server.events() == []


@pytest.mark.processes
def test_the_root_logger_stays_as_it_was(redis_server):
    program = (
        "import logging, sys\n"
        "from disentanglement_challenge.aicrowd import *\n"
        "root = logging.getLogger(); before = (root.level, list(root.handlers))\n"
        "with reported_execution(): pass\n"
        "assert 'aicrowd_api' in sys.modules and before == (root.level, root.handlers)\n"
    )
    environment = {**os.environ, **redis_server.environment}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, timeout=60, capture_output=True, text=True, check=True
    )
    assert result.stdout + result.stderr == ""
    assert redis_server.kinds() == ["execution_started", "submit"]
