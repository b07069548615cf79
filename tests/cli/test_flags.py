"""A dataclass of settings and the flags that it becomes, without a framework."""

import dataclasses
import importlib
import pathlib
import re

import pytest
from conftest import ROOT

from keras_mixer.cli import flags
from keras_mixer.cli.flags import Settings, changed, setting, settings_class
from keras_mixer.errors import InputError


@settings_class
class Data(Settings):
    """Data: what to learn from."""

    dataset: str = setting("digits", "A name.", common=True)
    size: int | None = setting(None, "Pixels.", least=4)
    rate: float = setting(None, "A rate.", usual=0.5)
    areas: tuple[float, ...] = setting(None, "Two areas.", usual=(0.05, 1.0))


@settings_class
class Run(Data):
    """A run."""

    kind: str = setting("fast", "fast or slow.", choices=("fast", "slow"))
    seeds: tuple[int, ...] = setting((0, 1), "Seeds.", least=0, distinct=True)
    pictures: bool = setting(True, "Draw.")
    files: tuple[str, ...] = setting((), "Files.", positional=True)
    size: int | None = changed(Data, "size", 8, help="Other pixels.")


def read(*arguments, of=Run):
    return flags.read(of, ["program", *arguments], "What it does.")


def test_no_flags_are_the_defaults():
    assert read() == Run()


def test_every_kind_of_value_is_read():
    given = read(
        "--dataset=photos", "--size", "16", "--rate=1", "--areas=0.2,.9", "--seeds=3", "--nopictures", "a", "b"
    )
    assert given == Run(
        dataset="photos", size=16, rate=1.0, areas=(0.2, 0.9), seeds=(3,), pictures=False, files=("a", "b")
    )
    assert isinstance(given.rate, float)


def test_python_may_give_paths_lists_and_whole_numbers():
    given = Run(dataset=pathlib.Path("photos"), areas=[1, 2], rate=1)
    assert (given.dataset, given.areas, given.rate) == ("photos", (1.0, 2.0), 1.0)


def test_arguments_give_the_same_settings_to_another_process():
    given = Run(size=None, rate=0.25, areas=(0.1, 0.5), pictures=False, seeds=(5, 6), dataset="a b")
    arguments = given.with_values(size=8).arguments()
    assert arguments == ["--dataset=a b", "--rate=0.25", "--areas=0.1,0.5", "--seeds=5,6", "--nopictures"]
    assert read(*arguments) == given.with_values(size=8)


def test_no_digit_is_lost_on_the_way_to_another_process_or_into_run_json():
    given = Run(rate=0.123456789, areas=(1e-9, 0.987654321))
    assert read(*given.arguments()) == given
    assert given.as_json()["areas"] == ["1e-09", "0.987654321"]


def test_filled_takes_what_is_chosen_and_else_the_usual_value_but_never_what_was_given():
    assert Run().filled() == Run(rate=0.5, areas=(0.05, 1.0))
    assert Run(rate=0.5).filled(rate=0.7).rate == 0.5
    assert Run().filled(rate=0.7, areas=None).rate == 0.7


def test_json_has_texts_in_place_of_several_numbers_and_no_files():
    told = Run(files=("a",)).filled().as_json(without={"kind"})
    assert told == {
        "areas": ["0.05", "1"],
        "dataset": "digits",
        "pictures": True,
        "rate": 0.5,
        "seeds": ["0", "1"],
        "size": 8,
    }
    assert list(told) == sorted(told)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--kind=slo", "kind: must be fast or slow, got 'slo'."),
        ("--size=3", "size: must be at least 4, got 3."),
        ("--seeds=1,1", "must be different whole numbers of at least 0, separated by commas, got '1,1'"),
        (
            "--seeds=",
            "seeds: must be different whole numbers of at least 0, separated by commas, got ''; write --seeds=0,1",
        ),
        ("--areas=half", "areas: must be numbers, separated by commas, got 'half'; write --areas=0.05,1."),
        ("--datset=a", "--datset is not a flag of this recipe; did you mean --dataset? See --help."),
        ("--size=many", "size: must be a whole number, got 'many'. See --help."),
        ("--rate=1e", "rate: must be a number, got '1e'. See --help."),
        ("--pictures=maybe", "pictures: must be true or false, got 'maybe'. See --help."),
        ("--size", "Missing value for flag --size"),
    ],
)
def test_bad_flags_are_one_sentence(argument, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read(argument)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(size="16"), "size: must be a whole number, got '16'"),
        (dict(size=True), "size: must be a whole number, got True"),
        (dict(pictures=1), "pictures: must be True or False, got 1"),
        (dict(seeds="1,2"), "seeds: must be several values, got '1,2'; give a tuple"),
        (dict(seeds=(1, "2")), "seeds: must be a whole number, got '2'"),
    ],
)
def test_bad_values_from_python_are_one_sentence(values, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Run(**values)


def test_an_argument_that_is_no_flag_is_refused_where_no_field_takes_it():
    with pytest.raises(ValueError, match=r"'b16' is not a flag; flags are written --name=value\. See --help\."):
        read("b16", of=Data)


def test_help_tells_of_what_most_need_and_names_the_rest_by_group():
    text = flags.help_text(Run, "What it does.")
    assert text.startswith("What it does.\n")
    assert "\n  --dataset                A name. Default digits.\n" in text
    assert "\nOf this command: --kind --seeds --pictures\n" in text
    assert "\nData: --size --rate --areas\n" in text
    full = flags.help_text(Run, "What it does.", full=True)
    lines = ("Other pixels. At least 4. Default 8.", "A rate. Default 0.5.", "Two areas. Default 0.05,1.")
    for line in (*lines, "--[no]pictures"):
        assert line in full


@pytest.mark.parametrize("recipe", sorted(path.stem for path in (ROOT / "recipes").glob("[a-z]*.py")))
def test_every_recipe_helps_in_at_most_60_lines_and_tells_all_when_asked(recipe):
    module = importlib.import_module(f"keras_mixer.recipes.{recipe}")
    doc, fields = flags.doc_of(module.run), dataclasses.fields(module.Settings)
    short, full = (flags.help_text(module.Settings, doc, full) for full in (False, True))
    assert len(short.splitlines()) <= 60
    for field in fields:
        if not field.metadata["positional"]:
            assert field.metadata["help"]
            assert field.name in short
            assert field.name in full
    assert 1 <= sum(field.metadata["common"] for field in fields) <= 18
