"""Weights from the Hugging Face hub, hf://owner/name[@revision][/file], by the optional package huggingface_hub."""

import contextlib
import hashlib
import os
import pathlib
import re
from collections.abc import Iterator

SCHEME = "hf://"
USUAL = "model.safetensors"  # what nearly every repository calls its weights
PATTERN = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?", re.ASCII)
FORM = "must be hf://owner/name or hf://owner/name/file, with @revision if need be"
HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")  # of git, for small files, or sha256
TIMEOUT = 30.0  # seconds without an answer
TOKEN = "log in with hf auth login, or set HF_TOKEN, if it is private or asks to be accepted"
WITHOUT = "without network fetch the file elsewhere and give its path"


def fetch(text: str, suffixes: tuple[str, ...]) -> pathlib.Path:
    """Return the cached copy of a file on the hub, downloaded where it is not there yet, its hash checked.

    The environment of huggingface_hub holds: HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE. What is cached is used
    where the hub cannot be reached.

    Args:
        text: hf://owner/name, optionally with @revision, and /file; without a file model.safetensors is taken, or the
            one file of weights that the repository has.
        suffixes: of files that can be read; others, such as pickles, are never downloaded.

    Raises:
        ImportError: without huggingface_hub.
        ValueError: for another form, a file of another kind, or bytes that are not those which the hub promised.
        OSError: if the hub cannot be reached, or has no such repository, revision or file.
    """
    match = PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"weights: {text!r} {FORM}.")
    try:
        import huggingface_hub
    except ImportError:
        raise ImportError(
            f"weights: {text} needs the package huggingface_hub; install it with pip install 'keras_mixer[hub]'."
        ) from None
    repo, revision, file = match["repo"], match["revision"], match["file"]
    if file is not None and not file.lower().endswith(suffixes):
        raise ValueError(
            f"weights: {text} is none of {', '.join(suffixes)}; other files may hold pickles, which can run any code, "
            "and are not downloaded."
        )
    if file is None:
        file = _only_file(text, repo, revision, suffixes)
    try:
        with _explained(text):
            path = pathlib.Path(huggingface_hub.hf_hub_download(repo, file, revision=revision))
    except huggingface_hub.errors.RemoteEntryNotFoundError:
        there = ", ".join(_files(text, repo, revision)) or "none"
        raise FileNotFoundError(f"weights: {text} has no such file; its repository has {there}.") from None
    # The cache calls a file by the hash that the hub told, below a link to it. That one link is read and no more: the
    # file that it names may be a link itself, to one that repositories share under a hash of another kind.
    expected = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
    if not HASH.fullmatch(expected):  # a cache without links
        with _explained(text):
            url = huggingface_hub.hf_hub_url(repo, file, revision=revision)
            expected = huggingface_hub.get_hf_file_metadata(url).etag or ""
    if _hash(path, len(expected)) != expected:
        raise ValueError(
            f"weights: {path.resolve()} is not the file that the hub promised for {text} (its hash is not {expected}); "
            "delete it to fetch it again."
        )
    return path


def _files(text: str, repo: str, revision: str | None) -> list[str]:
    import huggingface_hub

    # Not list_repo_files, which tries for half a minute where there is no network.
    with _explained(text):
        facts = huggingface_hub.HfApi().model_info(repo, revision=revision, timeout=TIMEOUT)
    return sorted(file.rfilename for file in facts.siblings or [])


def _only_file(text: str, repo: str, revision: str | None, suffixes: tuple[str, ...]) -> str:
    """Return the name of the file of weights of a repository that has one."""
    try:
        files = _files(text, repo, revision)
    except ConnectionError as error:
        cached = _cached_files(repo, revision)
        if USUAL in cached:
            return USUAL
        # One that is cached need not be the only one that the hub has.
        names = [name for name in cached if name.lower().endswith(suffixes)]
        if names:
            raise ConnectionError(
                f"weights: {text}: the hub cannot be asked which files it has; name one that was fetched before, "
                f"{' or '.join(names)}, as in {text}/{names[0]}."
            ) from None
        raise error from None
    weights = [name for name in files if name.lower().endswith(suffixes)]
    if USUAL in weights:
        return USUAL
    if len(weights) == 1:
        return weights[0]
    if weights:
        raise ValueError(f"weights: {text} has several files of weights; add one of {', '.join(weights)}.")
    raise ValueError(
        f"weights: {text} has no file that ends in {', '.join(suffixes)}; it has {', '.join(files) or 'none'}. Others "
        "may hold pickles, which can run any code, and are not downloaded."
    )


def _cached_files(repo: str, revision: str | None) -> list[str]:
    """Return the names of the files of a revision that were fetched before."""
    import huggingface_hub

    try:
        repos = huggingface_hub.scan_cache_dir().repos
    except huggingface_hub.errors.CacheNotFound:
        return []
    revision = revision or "main"
    revisions = [r for one in repos if (one.repo_id, one.repo_type) == (repo, "model") for r in one.revisions]
    found = [r for r in revisions if revision == r.commit_hash or revision in r.refs]
    return sorted(file.file_path.relative_to(r.snapshot_path).as_posix() for r in found for file in r.files)


def _hash(path: pathlib.Path, digits: int) -> str:
    """Return the sha256 of a file, or its git hash where that has as many digits."""
    with open(path, "rb") as file:
        if digits == 64:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
        digest.update(file.read())  # the hub keeps only small files this way
        return digest.hexdigest()


@contextlib.contextmanager
def _explained(text: str) -> Iterator[None]:
    """Give every failure of huggingface_hub one sentence: what, and the way out; a missing file is the caller's.

    A ConnectionError is one of the network or of a hub that is down, for which the cache may stand in.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.RemoteEntryNotFoundError:
        raise
    except errors.GatedRepoError:
        raise OSError(f"weights: {text} asks for permission; {TOKEN}.") from None
    except errors.RepositoryNotFoundError:
        raise OSError(f"weights: the hub has no repository for {text}; check owner and name, and {TOKEN}.") from None
    except errors.RevisionNotFoundError:
        raise OSError(f"weights: {text} has no such revision; leave @revision out for the newest.") from None
    except errors.HfHubHTTPError as error:
        answer = getattr(error.response, "status_code", None)
        told = f"weights: {text}: the hub answers HTTP {answer or error}"
        if answer in (401, 403):
            raise PermissionError(f"{told} to this token, or to none; check owner and name, and {TOKEN}.") from None
        raise ConnectionError(f"{told}; try again later, and look at HF_ENDPOINT if it is set.") from None
    except errors.HFValidationError as error:
        raise ValueError(f"weights: {text!r} {FORM} ({_first_line(error)}).") from None
    except Exception as error:  # of the HTTP library, which is another one in other versions, of hf_xet, of the disk
        if isinstance(error, OSError) and error.errno and not isinstance(error, (ConnectionError, TimeoutError)):
            what = f"weights: the cache of the hub cannot be used ({error.strerror}) for {text}; set HF_HOME to another"
            raise type(error)(error.errno, what) from None
        raise ConnectionError(f"weights: {text} cannot be fetched ({_first_line(error)}); {WITHOUT}.") from None


def _first_line(error: BaseException) -> str:
    """Say shortly what an error is, or the one that it came from."""
    error = error.__cause__ or error
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
