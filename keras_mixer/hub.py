"""Weights from the Hugging Face hub, hf://owner/name[@revision][/file], by the optional package huggingface_hub."""

import contextlib
import hashlib
import pathlib
import re
from collections.abc import Iterator

SCHEME = "hf://"
USUAL = "model.safetensors"  # what nearly every repository calls its weights
PATTERN = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?", re.ASCII)
TOKEN = "log in with hf auth login, or set HF_TOKEN, if it is private or asks to be accepted"


def is_hub(text: str) -> bool:
    """Whether `text` names something on the hub."""
    return text.lower().startswith(SCHEME)


def fetch(text: str, suffixes: tuple[str, ...]) -> pathlib.Path:
    """Return the cached copy of a file on the hub, downloaded where it is not there yet, its hash checked.

    The environment of huggingface_hub holds: HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE.

    Args:
        text: hf://owner/name, optionally with @revision, and /file; without a file model.safetensors is taken, or the
            one file of weights that the repository has.
        suffixes: of the files that can be read, such as ".safetensors"; others, such as pickles, are never downloaded.

    Raises:
        ImportError: without huggingface_hub.
        ValueError: for another form, a file of another kind, or bytes that are not those which the hub promised.
        OSError: if the hub cannot be reached, or has no such repository, revision or file.
    """
    match = PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"weights: {text!r} must be hf://owner/name or hf://owner/name/file, with @revision if need be."
        )
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
    with _explained(text):
        if file is None:
            cached = huggingface_hub.try_to_load_from_cache(repo, USUAL, revision=revision)
            offline = huggingface_hub.constants.is_offline_mode()
            file = USUAL if offline and cached else _only_file(text, repo, revision, suffixes)
        path = pathlib.Path(huggingface_hub.hf_hub_download(repo, file, revision=revision))
        expected = path.resolve().name  # the cache calls a file by the hash that the hub told
        if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", expected):  # without symbolic links
            url = huggingface_hub.hf_hub_url(repo, file, revision=revision)
            expected = huggingface_hub.get_hf_file_metadata(url).etag or ""
    if _hash(path, len(expected)) != expected:
        raise ValueError(
            f"weights: {path.resolve()} is not the file that the hub promised for {text} (its hash is not {expected}); "
            "delete it to fetch it again."
        )
    return path


def _only_file(text: str, repo: str, revision: str | None, suffixes: tuple[str, ...]) -> str:
    """Return the name of the file of weights of a repository that has one."""
    import huggingface_hub

    files = sorted(huggingface_hub.HfApi().list_repo_files(repo, revision=revision))
    weights = [name for name in files if name.lower().endswith(suffixes)]
    if USUAL in weights:
        return USUAL
    if len(weights) == 1:
        return weights[0]
    if weights:
        raise ValueError(f"weights: {text} has several files of weights; add one of {', '.join(weights)}.")
    raise ValueError(
        f"weights: {text} has no file that ends in {', '.join(suffixes)}; it has {', '.join(files) or 'none'}."
    )


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
    """Give every failure of the hub one sentence: what, and the way out."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise OSError(f"weights: {text} asks for permission; {TOKEN}.") from None
    except errors.RepositoryNotFoundError:
        raise OSError(f"weights: the hub has no repository for {text}; check owner and name, and {TOKEN}.") from None
    except errors.RevisionNotFoundError:
        raise OSError(f"weights: {text} has no such revision; leave @revision out for the newest.") from None
    except errors.RemoteEntryNotFoundError:
        raise OSError(f"weights: {text} has no such file; leave the file out to take the repository's own.") from None
    except errors.HfHubHTTPError as error:
        answer = getattr(error.response, "status_code", None)
        raise OSError(f"weights: {text}: the hub answers HTTP {answer or error}; try again later.") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError) as error:
        raise ConnectionError(f"weights: {text} cannot be fetched ({_first_line(error)}); {_WITHOUT}") from None
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("weights: "):
            raise
        if not type(error).__module__.startswith(("huggingface_hub", "httpx", "hf_xet", "requests")):
            raise
        raise ConnectionError(f"weights: {text} cannot be fetched ({_first_line(error)}); {_WITHOUT}") from None


_WITHOUT = "without network fetch the file elsewhere and give its path."


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
