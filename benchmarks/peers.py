"""Training steps of other packages, each in a virtual environment below scratch/peers, for benchmarks/training.py.

`peer_step.py` is what runs there.
"""

import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from disentanglement_challenge.errors import ChallengeError
from disentanglement_challenge.objectives import BetaTCVAE, FactorVAE, Objective


@dataclass(frozen=True)
class Equal:
    """A peer, and the objective of this package whose step does equal work.

    Attributes:
        requirement: what pip installs.
        objective: of this package.
        note: what both do.
    """

    requirement: str
    objective: Objective
    note: str


PEERS = {
    "pythae": Equal("pythae==0.1.2", FactorVAE(10.0, second_batch=True), "FactorVAE, reconstructs one batch of two"),
    "disent": Equal("disent==0.8.0", BetaTCVAE(4.0), "beta-TCVAE, as disent has no FactorVAE"),
}


class Peer:
    """A peer's step in a separate process."""

    def __init__(self, name: str, batch_size: int, num_latent: int) -> None:
        """Install and start the peer; raise ChallengeError if that fails."""
        python = Path("scratch/peers") / name / "bin" / "python"
        log = Path("scratch/peers") / f"{name}.log"
        if not python.exists():
            python.parent.parent.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([sys.executable, "-m", "venv", python.parent.parent], check=True)
        torch_version = torch.__version__.split("+")[0]
        with log.open("w") as output:
            wanted = (PEERS[name].requirement, f"torch=={torch_version}")
            install = [str(python), "-m", "pip", "install", "--quiet", *wanted]
            if subprocess.run(install, stdout=output, stderr=output).returncode:
                raise ChallengeError(f"cannot be installed: {_last_line(log)}")
        arguments = [name, str(batch_size), str(num_latent), str(torch.get_num_threads())]
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [python, Path(__file__).with_name("peer_step.py"), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise ChallengeError(f"does not run: {_last_line(log)}")

    def __call__(self, steps: int) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        with suppress(OSError):  # it has ended already
            self.process.stdin.close()
        self.process.wait()


def _last_line(log: Path) -> str:
    return (log.read_text().strip().splitlines() or ["no reason given"])[-1]
