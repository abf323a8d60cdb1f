"""Push an experiment's model to Hugging Face's hub, and load a model from there, with huggingface_hub.

The library (https://huggingface.co/docs/huggingface_hub) reads HF_TOKEN, HF_ENDPOINT and HF_HOME.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from disentanglement_challenge.errors import HubError, OutputError, RepresentationError, lines_of
from disentanglement_challenge.experiment import MODEL_SUFFIXES, Experiment
from disentanglement_challenge.export.model_card import write_card
from disentanglement_challenge.extras import require_extra
from disentanglement_challenge.files import locked, make_folder, remove

if TYPE_CHECKING:
    from huggingface_hub import HfUri

PREFIX = "hf://"
MODELS = tuple(f"pytorch_model{suffix}" for suffix in MODEL_SUFFIXES)
# The files that are pushed and loaded; other files of a repository are left alone.
FILES = (*MODELS, "README.md", "results/gin/train.gin", "results/gin/postprocess.gin")


def push(experiment: Experiment, repository: str, private: bool = False) -> str:
    """Push the model, its card and its gin configuration; return the repository's URL.

    Create a missing repository. The same commit deletes files of the repository that `load` would take and the
    experiment does not have.

    Args:
        experiment: an experiment with a model.
        repository: owner/name, or owner/name@branch for an existing branch.
        private: whether to make a new repository private.

    Raises:
        RepresentationError: the experiment has no model.
        HubError: the repository's name is invalid, or the hub refuses or cannot be reached.
        OutputError: a process is writing to the experiment.
    """
    uri = _whole(repository)
    if not os.path.exists(experiment.model_to_score):
        raise RepresentationError(
            f"no model at {experiment.model}; train one first, or name an experiment that has one"
        )
    from huggingface_hub import HfApi

    api = HfApi()
    with locked(experiment.path):
        if not experiment.card.exists():  # an experiment of an earlier version
            write_card(experiment)
        with _explained(uri.id):
            url = api.create_repo(uri.id, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=uri.id,
                folder_path=experiment.model.parent,
                revision=uri.revision,
                allow_patterns=list(FILES),
                delete_patterns=list(FILES),
                commit_message=f"Push {experiment.name}",
            )
    return str(url)


def load(repository: str, experiment: Experiment, overwrite: bool = False) -> Path:
    """Load a repository's model, card and gin configuration into an experiment, for scoring; return the model's path.

    The model is checked first, without unpickling. Nothing is written if it cannot be loaded.

    Args:
        repository: owner/name, or owner/name@revision.
        experiment: the experiment to write to.
        overwrite: whether to replace the experiment's contents.

    Raises:
        HubError: the repository's name is invalid, it has no model, or the hub refuses or cannot be reached.
        RepresentationError: the model cannot be loaded.
        OutputError: the experiment is not empty, or cannot be written.
    """
    uri = _whole(repository)
    experiment.check_loading(overwrite)
    from disentanglement_challenge.export.model_file import import_model  # imports PyTorch, which push does not need

    downloaded = _download(uri, FILES)
    models = [downloaded / name for name in MODELS if (downloaded / name).is_file()]
    if not models:
        raise _no_model(uri)
    for model in models:
        import_model(model)
    with experiment.loading() as unfinished:
        for name in FILES:
            if (downloaded / name).is_file():
                target = unfinished.model.parent / name
                make_folder(target.parent)
                try:
                    shutil.copyfile(downloaded / name, target)
                except OSError as error:
                    raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
        experiment.take_model()
        remove(experiment.unfinished.path)
    return experiment.model_to_score


def is_address(representation: object) -> bool:
    """Return whether this is the address of a model on the hub, such as "hf://owner/name@revision"."""
    return isinstance(representation, str) and representation.startswith(PREFIX)


def model_file(address: str) -> Path:
    """Download the model at an address, or find it in huggingface_hub's cache, and return its file.

    Args:
        address: "hf://owner/name", optionally followed by "@revision" or "/file".

    Raises:
        HubError: as for `load`.
    """
    uri = _parsed(address)
    for name in [uri.path_in_repo] if uri.path_in_repo else MODELS:  # one by one, as each may be large
        path = _download(uri, [name]) / name
        if path.is_file():
            return path
    raise _no_model(uri)


def _whole(repository: str) -> "HfUri":
    """Return the address of a repository; raise HubError for that of a file in it."""
    uri = _parsed(repository)
    if uri.path_in_repo:
        raise HubError(f"{repository!r} names {uri.path_in_repo} in {uri.id}; a whole repository is owner/name")
    return uri


def _parsed(repository: str) -> "HfUri":
    require_extra("hub", "a model on the hub")
    from huggingface_hub import parse_hf_uri

    address = repository if repository.startswith(PREFIX) else PREFIX + repository
    try:
        uri = parse_hf_uri(address)
    except ValueError as error:
        raise HubError(f"{repository!r} is not a model on the hub ({lines_of(error)[0]}); write owner/name") from error
    if uri.type != "model":
        raise HubError(f"{repository!r} is a {uri.type}, not a model; write owner/name")
    return uri


def _download(uri: "HfUri", names: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    with _explained(uri.id):
        return Path(snapshot_download(uri.id, revision=uri.revision, allow_patterns=list(names)))


def _no_model(uri: "HfUri") -> HubError:
    names = [uri.path_in_repo] if uri.path_in_repo else MODELS
    return HubError(
        f"{uri.id} on the hub does not have {' or '.join(names)}; {PREFIX}{uri.id}/FILE scores another file"
    )


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn errors of huggingface_hub into one line that names the repository."""
    from httpx2 import HTTPError  # huggingface_hub lets it through if no server answers
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, HfHubHTTPError):
            reason = f"{error.response.status_code} {error.server_message or error.response.reason_phrase}"
            if error.response.status_code in (401, 403):
                reason += "; set HF_TOKEN to a token with access, or log in: hf auth login"
        elif isinstance(error, LocalEntryNotFoundError):
            reason = "cannot be reached, and is not in the cache"
        else:
            reason = lines_of(error)[0]
        raise HubError(f"{repository} on the hub: {reason:.300}") from error
