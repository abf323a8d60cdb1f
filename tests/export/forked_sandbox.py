"""A sandbox whose process is a fork of this one, so that thousands can be started; the child does the same work."""

import os
import signal
import sys

from disentanglement_challenge.export.sandbox import Sandbox, serve


class Child:
    """A forked process with the methods of `subprocess.Popen` that the sandbox uses."""

    def __init__(self, pid):
        self.pid = pid
        self._status = None

    def kill(self):
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status


class ForkedSandbox(Sandbox):
    def _start(self, connection):
        pid = os.fork()
        if pid == 0:
            quiet = os.open(os.devnull, os.O_RDWR)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            try:
                serve(connection, str(self._path), self._memory_limit, 1)
            finally:
                os._exit(0 if sys.exc_info()[0] is None else 1)
        return Child(pid)
