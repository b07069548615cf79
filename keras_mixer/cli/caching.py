"""The flags of a cache of decoded images, and what becomes of them: a source whose images are decoded once."""

from typing import Any

from keras_mixer import buckets
from keras_mixer.cli import inputs
from keras_mixer.cli.flags import Settings, setting, settings_class
from keras_mixer.cli.settings import Batches
from keras_mixer.data import image_cache
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.data.source import Source

GB = 10**9


@settings_class
class Caching(Settings):
    """Cache: of the images to train on, decoded once."""

    cache: str = setting(
        "none",
        "Keep the decoded images of a folder: none, memory or disk, at a size that serves every crop.",
        choices=("none", "memory", "disk"),
        common=True,
    )
    cache_gb: float = setting(None, "At most so many GB of them; the others are decoded each time. Default 4.")
    cache_dir: str | None = setting(
        None, "disk: a folder that stays, for other runs too; default one in --workdir, removed at the end."
    )


def check(settings: Caching) -> None:
    """Refuse flags of a cache that say nothing together."""
    if settings.cache == "none" and settings.cache_gb is not None:
        raise ValueError("cache_gb: is the bound of a cache; give --cache=memory or disk, or leave it out.")
    if settings.cache != "disk" and settings.cache_dir is not None:
        raise ValueError("cache_dir: is where --cache=disk keeps images; give that, or leave it out.")
    if settings.cache_gb is not None and not 0 < settings.cache_gb < float("inf"):
        raise ValueError(f"cache_gb: must be a positive number of GB, got {settings.cache_gb}; try 4.")


def folder_of(settings: Any) -> str:
    """Return the folder of a cache on disk; a ValueError where the workdir is in a bucket and none is given."""
    if settings.cache_dir is not None:
        return settings.cache_dir
    folder = buckets.path_of(settings.workdir, "workdir")
    if buckets.is_bucket(folder):
        raise ValueError(f"cache_dir: {settings.workdir} is in a bucket; give a folder on a disk of this machine.")
    return str(folder / "cache")


def cached(settings: Any, source: Source) -> tuple[Source, dict[str, Any]]:
    """Return the source with its images kept as the settings say, and what that does to a run, as `Origin.facts`.

    Where they do not fit a line says how many do, and what to do about it.

    Args:
        settings: filled ones, `Batches` and `Caching` in one.
        source: of the images to train on.
    """
    if settings.cache == "none":
        return source, {}
    image_cache.check_source(source)
    pixels, side = PixelSettings(**settings.pixels()), side_of(settings)
    most = round((4 if settings.cache_gb is None else settings.cache_gb) * GB)
    needed = image_cache.estimated_bytes(source, side)
    if needed > most:
        print(
            f"cache: {source.num_examples:,} images of at most {side:,} px on the shorter side take about "
            f"{needed / GB:.3g} GB, and {most / GB:.3g} GB hold {most / needed:.0%} of them; the others are decoded in "
            "each pass, to the same pixels. Raise --cache_gb, raise the least of --crop_area, or train from records "
            "that make_records.py --max_side=512 has made.",
            flush=True,
        )
    store: image_cache.Store = image_cache.Memory(most)
    if settings.cache == "disk":
        store = image_cache.Folder(folder_of(settings), most, f"{side} {pixels}")
    return image_cache.cached(source, store, side, pixels), {"cached_side": side}


def side_of(settings: Batches) -> int:
    """Return the shorter side in pixels at which filled settings keep images."""
    return image_cache.side_for(settings.image_size, inputs.augmentation(settings))


def clear(settings: Any) -> None:
    """Remove what a finished run kept in its workdir, also before it was continued with the cache in memory."""
    if settings.cache != "none" and settings.cache_dir is None and not buckets.is_bucket(settings.workdir):
        image_cache.remove(buckets.path_of(settings.workdir) / "cache")
