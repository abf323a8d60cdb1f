"""The metadata inside an exported model's file."""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Self

# The metadata's name in the file: an entry of the archive, or a key of ONNX's metadata.
METADATA = "disentanglement_challenge.json"


@dataclass(frozen=True)
class Metadata:
    """The origin of a representation.

    Attributes:
        dataset: the name of the data set that it was trained on.
        num_latent: the width of the representation.
        gin_config_sha256: the SHA-256 of the operative gin configuration in UTF-8, which is beside the model as
            results/gin/train.gin.
    """

    dataset: str
    num_latent: int
    gin_config_sha256: str

    @classmethod
    def of(cls, dataset: str, num_latent: int, gin_config: str) -> Self:
        """Make metadata with the check sum of this gin configuration."""
        return cls(dataset, num_latent, sha256(gin_config.encode()).hexdigest())

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read the output of `to_json`; raise ValueError for anything else."""
        content = json.loads(text)
        kinds = {"dataset": str, "num_latent": int, "gin_config_sha256": str}
        if not isinstance(content, dict) or {name: type(value) for name, value in content.items()} != kinds:
            raise ValueError(f"the metadata must be {', '.join(kinds)}")
        return cls(**content)

    def to_json(self) -> str:
        return json.dumps(asdict(self))
