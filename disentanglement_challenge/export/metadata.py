"""What an exported model says of itself, inside its file."""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Self

# The name that it has in the file: of an entry of the archive, or of ONNX's metadata.
METADATA = "disentanglement_challenge.json"


@dataclass(frozen=True)
class Metadata:
    """Where a representation comes from.

    Attributes:
        dataset: the name of the data set that it was trained on.
        num_latent: the width of the representation.
        gin_config_sha256: of the operative gin configuration, in UTF-8, which lies beside the model as
            results/gin/train.gin.
    """

    dataset: str
    num_latent: int
    gin_config_sha256: str

    @classmethod
    def of(cls, dataset: str, num_latent: int, gin_config: str) -> Self:
        """With the sum of this gin configuration."""
        return cls(dataset, num_latent, sha256(gin_config.encode()).hexdigest())

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Reads what `to_json` wrote; raises ValueError for anything else."""
        content = json.loads(text)
        kinds = {"dataset": str, "num_latent": int, "gin_config_sha256": str}
        if not isinstance(content, dict) or {name: type(value) for name, value in content.items()} != kinds:
            raise ValueError(f"the metadata must be {', '.join(kinds)}")
        return cls(**content)

    def to_json(self) -> str:
        return json.dumps(asdict(self))
