"""The metrics, one file each, and the table of their records.

Each file ends with its record, `METRIC`; `RECORDS` collects those of all files in this folder. A metric that is a
function of points can be called on arrays: `mig(codes, factors)`. Such a call does not sample; `score` samples as the
challenge does.
"""

import importlib
import pkgutil

from disentanglement_challenge.metrics.metric import Metric

_MODULES = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]

_FOUND = [module.METRIC for module in _MODULES if isinstance(getattr(module, "METRIC", None), Metric)]

RECORDS: dict[str, Metric] = {
    record.name: record for record in sorted(_FOUND, key=lambda record: (not record.column, record.column, record.name))
}
"""All metrics by name, the challenge's five first."""

METRICS: dict[str, Metric] = {name: record for name, record in RECORDS.items() if record.column}
"""The challenge's five, in the order of the report's tables."""

from disentanglement_challenge.metrics.dci import dci  # noqa: E402 (the name is the function, not the module)
from disentanglement_challenge.metrics.explicitness import explicitness  # noqa: E402
from disentanglement_challenge.metrics.infoc import infoc  # noqa: E402
from disentanglement_challenge.metrics.infoe import infoe  # noqa: E402
from disentanglement_challenge.metrics.infom import infom  # noqa: E402
from disentanglement_challenge.metrics.irs import irs  # noqa: E402
from disentanglement_challenge.metrics.jemmig import jemmig  # noqa: E402
from disentanglement_challenge.metrics.mig import mig  # noqa: E402
from disentanglement_challenge.metrics.mig_sup import mig_sup  # noqa: E402
from disentanglement_challenge.metrics.modularity import modularity  # noqa: E402
from disentanglement_challenge.metrics.rmig import rmig  # noqa: E402
from disentanglement_challenge.metrics.sap import sap  # noqa: E402
from disentanglement_challenge.metrics.unified_scores import unified_scores  # noqa: E402
from disentanglement_challenge.metrics.unsupervised import unsupervised  # noqa: E402

__all__ = [
    "METRICS",
    "RECORDS",
    "Metric",
    "dci",
    "explicitness",
    "infoc",
    "infoe",
    "infom",
    "irs",
    "jemmig",
    "mig",
    "mig_sup",
    "modularity",
    "rmig",
    "sap",
    "unified_scores",
    "unsupervised",
]
