"""Score codes or a model from the shell, as `disentanglement_challenge.score` does.

python -m disentanglement_challenge.score codes.npy --factors factors.csv
python -m disentanglement_challenge.score codes.npy --dataset mpi3d_embedded --metrics mig sap
python -m disentanglement_challenge.score model.pt --dataset mpi3d_embedded --json scores.json --page scores.html
python -m disentanglement_challenge.score hf://owner/name --dataset mpi3d_embedded
"""

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from disentanglement_challenge.checks import check_suffix
from disentanglement_challenge.cli import Parser, run_script
from disentanglement_challenge.errors import ConfigError


def main(flags: argparse.Namespace) -> None:
    # Imported here, so that --help and mistakes in flags need not wait for numerical packages.
    from disentanglement_challenge.data.table_files import read_codes, read_factors
    from disentanglement_challenge.data.tables import factor_table
    from disentanglement_challenge.evaluation.score import chosen, score
    from disentanglement_challenge.evaluation.scores import print_scores
    from disentanglement_challenge.experiment import MODEL_SUFFIXES
    from disentanglement_challenge.hub.repository import is_address

    results, page = (Path(given).expanduser() if given else None for given in (flags.json, flags.page))
    if results is not None:
        check_suffix("--json", results, [".json"])
    if page is not None:
        check_suffix("--page", page, [".html"])
    settings = dict(_setting(text) for text in flags.settings)
    metrics = chosen(flags.metrics)
    path = Path(flags.representation).expanduser()
    bins = flags.bins[0] if flags.bins and len(flags.bins) == 1 else flags.bins
    if flags.factors is None:
        for name in ("leave_out", "bins"):
            if getattr(flags, name):
                raise ConfigError(f"--{name} is for the columns of --factors FILE, which is not given")
    representation: Any
    data: Any
    if path.suffix in MODEL_SUFFIXES or is_address(flags.representation):
        if flags.dataset is None:
            raise ConfigError(f"{path.name} is a model, which needs images: add --dataset NAME")
        representation, data = flags.representation if is_address(flags.representation) else path, flags.dataset
    elif flags.dataset is not None:
        representation, data = read_codes(path), flags.dataset
    elif flags.factors is not None:
        data = factor_table(read_factors(Path(flags.factors).expanduser(), flags.leave_out), bins)
        representation = read_codes(path)
    else:
        raise ConfigError(
            f"{path.name} needs factors: add --factors FILE, or --dataset NAME for codes in a data set's order"
        )
    scores = score(representation, data, metrics, flags.seed, flags.engine, settings)
    print_scores(scores)
    if results is not None:
        scores.to_json(results)
        print(f"scores: {results.absolute()}")
    if page is not None:
        from disentanglement_challenge.pages.experiment_page import write_score_page

        write_score_page(scores, path.name, page)
        print(f"page: {page.absolute()}")


def _setting(text: str) -> tuple[str, Any]:
    """Parse a setting such as "dci.num_train = 2000"."""
    name, equals, value = text.partition("=")
    try:
        if equals:
            return name.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        if value.strip().startswith("@"):
            return name.strip(), value.strip()
    raise ConfigError(f"--settings {text!r} is not a setting; expected one like 'dci.num_train = 2000'")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags."""
    parser = Parser(
        prog="python -m disentanglement_challenge.score",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "representation",
        metavar="FILE",
        help="codes (.npy, .npz or a table of numbers), or a model (.pt, .pt2, .onnx, hf://owner/name)",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--factors", metavar="FILE", help="the factors of the codes: .csv with a header, .npy or .npz")
    source.add_argument("--dataset", metavar="NAME", help="the data set of the codes, in its order, or of the model")
    parser.add_argument("--leave_out", nargs="+", default=[], metavar="COLUMN", help="columns that are not factors")
    parser.add_argument(
        "--bins",
        nargs="+",
        type=_bin,
        metavar="N",
        help="the number of equal bins for continuous factors; or a number for each factor (0: none)",
    )
    parser.add_argument(
        "--metrics", nargs="+", metavar="NAME", help="default: the challenge's five; module:RECORD for your own"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the metrics (default: %(default)s)")
    parser.add_argument(
        "--engine", default="fast", help="fast (default), or library for disentanglement_lib's own code"
    )
    parser.add_argument(
        "--settings", action="append", default=[], metavar="'a.b = c'", help="a metric's setting; repeatable"
    )
    parser.add_argument("--json", metavar="FILE", help="write all results to this JSON file")
    parser.add_argument("--page", metavar="FILE", help="write a page to this HTML file")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(arguments)


def _bin(text: str) -> int | None:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bins")
    return int(text) or None


if __name__ == "__main__":
    parsed = parse()
    run_script(lambda: main(parsed), parsed.debug)
