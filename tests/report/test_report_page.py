"""The page of a run, from files made by hand: what it says and escapes, and what it says where something is missing."""

import html
import itertools
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from synthetic_run import NAMES, RESULT, predictions, source, write_run

from keras_mixer.cli import page_evidence, pages
from keras_mixer.report import page, run_files, sections
from keras_mixer.report.numbers import percent

VOID = {"meta", "link", "img", "br", "path", "circle"}


class Page(HTMLParser):
    """A page as its elements, (tag, attributes), its texts, and the errors of its nesting."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.wrong, self.open, self.data = [], [], [], [], {}
        self.feed(text)
        self.wrong += self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, text):
        if text.strip() and self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(text.strip())
            if self.open[-1] == "data":
                self.data[self.elements[-1][1]["value"]] = text.strip()

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("synthetic") / "my run")


@pytest.fixture(scope="module")
def written(place):
    return Page(pages.write(str(place)).read_text("utf-8"))


def test_the_numbers_are_those_of_the_result(written):
    found = written.data
    for key, form in (("top1", percent), ("top5", percent), ("loss", "{:.4f}".format)):
        assert found[str(RESULT[key])] == form(RESULT[key])
    assert found[str(RESULT["num_examples"])] == "60"
    assert found[str(RESULT["images_seen"])] == "2,560"
    assert found[str(RESULT["training_seconds"])] == "1 min 15 s"
    assert found[str(RESULT["images_per_second"])] == "1,234.5"
    assert found["75530"] == "75,530"
    assert "of 60 images; 95 % interval 66.38% to 86.88%" in written.text
    error = predictions().totals()["expected_calibration_error"]
    assert found[str(error)] == f"{error:.4f}"


def test_another_result_is_another_page(place, tmp_path):
    """The test above can fail: the page has what the file has, and not what this process knows."""
    shutil.copytree(place, tmp_path / "run")
    (tmp_path / "run" / "result.json").write_text(json.dumps(RESULT | {"top1": 0.5}))
    other = Page(pages.write(str(tmp_path / "run")).read_text("utf-8"))
    assert other.data["0.5"] == "50.00%"
    assert str(RESULT["top1"]) not in other.data


def test_it_is_well_formed_and_asks_for_nothing(written):
    assert not written.wrong
    for tag in ("img", "link", "script", "iframe", "object"):
        for attributes in written.named(tag):
            address = attributes.get("src") or attributes.get("href") or "data:"
            assert address.startswith("data:"), address
    assert not [a for a in written.named("a") if not a["href"].startswith("#")]
    (policy,) = (m["content"] for m in written.named("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_names_of_classes_and_files_stay_text(place, written):
    text = (place / page.NAME).read_text("utf-8")
    assert len(written.named("script")) == 1  # its own
    assert not [a for a in written.named("img") if "onerror" in a or a["src"] == "x"]
    for name in NAMES:
        assert name in written.text
    assert "photos/<img src=x onerror=alert(1)>/" in written.text
    assert written.text.count("2 files are <b>no images</b> by their names") == 1  # the same in both parts
    assert NAMES[0] not in text
    assert html.escape("<img src=x") in text


def test_every_picture_and_chart_says_in_words_what_it_shows(written):
    pictures = written.named("img")
    assert len(pictures) > 30
    assert all(picture["alt"].strip() for picture in pictures)
    charts = [svg for svg in written.named("svg") if svg.get("role") == "img"]
    assert len(charts) == 5  # four curves and the calibration
    assert all("." in svg["aria-label"] for svg in charts)
    assert len([1 for tag, _ in written.elements if tag == "caption"]) == len(written.named("table"))
    assert len(written.named("h1")) == 1
    levels = [int(tag[1]) for tag, _ in written.elements if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [a["id"] for _, a in written.elements if "id" in a]
    assert len({*ids}) == len(ids)
    assert {a["href"][1:] for a in written.named("a")} <= {*ids}


def test_pairs_classes_and_matrix_count_the_mistakes(place):
    run = run_files.read(place)
    found, confusion = predictions(), sections.confusion(run)
    assert sum(pair["images"] for pair in confusion["pairs"]) == (~found.correct).sum() == 13
    assert confusion["pairs"][0]["images"] == max(pair["images"] for pair in confusion["pairs"])
    assert [row[k][0] for k, row in enumerate(confusion["matrix"]["rows"])] == [
        int(((found.labels == k) & found.correct).sum()) for k in range(4)
    ]
    table = sections.classes(run)
    assert [name for _, name, _ in table["columns"]][:5] == ["F1", "precision", "recall", "evaluated", "training"]
    assert [row["images"] for row in table["rows"]] == [int((found.labels == k).sum()) for k in range(4)]


def test_many_classes_stay_readable(place):
    run = run_files.read(place)
    names = [f"class {i}" for i in range(1200)]
    rows = [{"class": i, "name": name, "images": 2, "f1": i / 1200} for i, name in enumerate(names)]
    many = run_files.RunFiles(
        **{**vars(run), "classes": rows, "confused": [(name, names[0], 1) for name in names], "evidence": {}}
    )
    confusion, table = sections.confusion(many), sections.classes(many)
    assert confusion["matrix"] is None
    assert len(confusion["pairs"]) + confusion["others"] == 1199
    assert (len(table["rows"]), table["count"]) == (1000, 1200)
    assert max(row["f1"] for row in table["rows"]) < 1000 / 1200
    few = run_files.RunFiles(**{**vars(many), "classes": rows[:40], "confused": [(n, names[0], 1) for n in names[:40]]})
    assert len(sections.confusion(few)["matrix"]["names"]) == 30


def test_settings_that_differ_and_all_of_them(place):
    found = sections.settings(run_files.read(place))
    assert found["differ"] == [
        {"name": "dataset", "value": "my photos", "default": "digits"},
        {"name": "freeze", "value": "stem, block_?", "default": "-"},
        {"name": "image_size", "value": "8", "default": "-"},
    ]
    assert ("learning_rate", "0.01") in found["all"]


def test_the_commands_are_quoted_and_name_the_run(place):
    commands = pages.commands_of(run_files.read(place), "runs/my run/")
    lines = {key: line.split(maxsplit=2)[-1] for key, (_, line) in commands.items()}
    assert lines["repeat"] == f"'--dataset=my photos' --total_steps=40 '--workdir={place}' --overwrite"
    assert lines["evaluate"] == "'--weights=runs/my run' '--workdir=runs/my run_evaluate'"
    assert lines["predict"] == "'--weights=runs/my run' path/to/images"
    assert lines["export"] == "'--weights=runs/my run' '--output=runs/my run_export'"


def test_what_is_missing_is_said_with_the_command_that_fills_it_in(tmp_path):
    folder = write_run(tmp_path / "run", with_images=False)
    found = Page(pages.write(str(folder)).read_text("utf-8"))
    assert not found.wrong
    line = pages.commands_of(run_files.read(folder), str(folder))["evaluate"][1]
    assert found.texts.count(line) == 3  # in place of single images and of the classes, and among the commands
    for what in ("What is taken for what", "the worst mistakes", "looked at", "precision and recall", "calibration"):
        assert what in found.text
    assert "No picture of weights is in this folder." in found.text
    assert "No training image is in this folder" in found.text
    assert not found.named("img")


def test_without_pictures_the_page_has_none(tmp_path):
    folder = write_run(tmp_path / "run", pictures=False)
    found = Page(pages.write(str(folder)).read_text("utf-8"))
    assert not found.named("img")
    assert "The worst mistakes" in found.text
    assert "Most confused pairs" in found.text


def test_a_run_in_progress_has_its_curves_and_says_so(tmp_path):
    folder = write_run(tmp_path / "run", with_images=False)
    (folder / "result.json").unlink()
    found = Page(pages.write(str(folder)).read_text("utf-8"))
    assert "This run has not finished: step 40, eval top-1 66.67% at step 40." in found.text
    assert found.data[str(40 / 60)] == "66.67%"
    commands = pages.commands_of(run_files.read(folder), str(folder))
    assert commands["repeat"][0] == "Go on with this run"
    assert "--overwrite" not in commands["repeat"][1]
    assert "predict" not in commands


def test_a_run_of_an_earlier_version_has_all_its_settings(tmp_path):
    folder = write_run(tmp_path / "run", with_images=False)
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({"settings": about["settings"]}))
    found = Page(pages.write(str(folder)).read_text("utf-8"))
    assert "did not note the defaults" in found.text
    assert "repeat" not in pages.commands_of(run_files.read(folder), str(folder))


def test_several_runs_lie_side_by_side(place, tmp_path):
    other = write_run(tmp_path / "other", with_images=False, learning_rate=0.03)
    (other / "result.json").write_text(json.dumps(RESULT | {"top1": 0.25}))
    runs = [run_files.read(place), run_files.read(other)]
    found = Page(page.side_by_side(runs, ["my run", "other <b>"]))
    assert not found.wrong
    assert found.data[str(RESULT["top1"])] == "78.33%"
    assert found.data["0.25"] == "25.00%"
    assert dict(sections.differing(runs)) == {"learning_rate": ["0.01", "0.03"]}
    runs[1].about["flags"]["only_of_this_command"] = 3
    assert dict(sections.differing(runs)).keys() == {"learning_rate"}
    assert "other <b>, evaluation" in found.text
    assert len([svg for svg in found.named("svg") if svg.get("role") == "img"]) == 4
    assert not found.named("b")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{", "places: .*run.json is damaged or of something else; restore it, or give another folder"),
        ("run.json", '{"settings": 3}', "places: .*run.json is damaged or of something else"),
        ("result.json", '{"top1": 0.5}', "places: .*result.json is damaged; remove it"),
        ("result.json", '{"top1": "x", "top5": 1, "loss": 1, "num_examples": 1}', "places: .*result.json is damaged"),
        ("report.json", '{"mistakes": 3}', "places: .*report.json is damaged; remove it"),
        ("result.json", "[1]", "places: .*result.json is damaged or of something else"),
        ("metrics.csv", "step,loss\n1,2\n", "places: .*metrics.csv has the unknown column 'loss'"),
        ("classes.csv", "class,name,images\n1,a\n", "places: .*classes.csv is damaged; remove it"),
        ("classes.csv", "class,name,images\n1,a,many\n", "places: .*classes.csv is damaged; remove it"),
        ("confusion.csv", "true class,a,b\na,1,x\nb,0,1\n", "places: .*confusion.csv is damaged; remove it"),
        ("report.json", "nothing", "places: .*report.json is damaged; remove it"),
    ],
)
def test_a_damaged_file_is_one_sentence_that_names_it(place, tmp_path, name, content, message):
    shutil.copytree(place, tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        pages.write(str(tmp_path / "run"))


def test_a_page_that_cannot_be_written_is_a_warning_at_the_end_of_a_run(place, tmp_path, caplog, capsys):
    shutil.copytree(place, tmp_path / "run")
    (tmp_path / "run" / "report.json").write_text("nothing")
    pages.write_last(str(tmp_path / "run"))
    (record,) = caplog.records
    assert "report.html could not be written (ValueError: places:" in record.getMessage()
    assert "the run itself is saved" in record.getMessage()
    assert capsys.readouterr().out == ""


def test_nothing_that_the_page_wants_can_end_a_run(tmp_path, caplog):
    def batch():
        raise RuntimeError("planted")

    page_evidence.keep_of_training(tmp_path, None, {"training": source()}, batch, pictures=True)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "(RuntimeError: planted); the run itself is saved. Try again: " in caplog.text
