"""`pictures.paper_figures` and `pictures.mixer_drawing`: what of the paper is drawn, and where."""

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from keras_mixer import paper
from keras_mixer.pictures import mixer_drawing, paper_figures


def _figures(monkeypatch):
    """Return a list that gets every figure which is written."""
    seen, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (seen.append(self), savefig(self, *a, **k))[1])
    return seen


def test_the_frontier_is_the_one_that_the_paper_names():
    """The caption of Figure 2: Mixer sits on it with HaloNet, ViT, NFNet and MPL."""
    best = paper_figures.pareto(paper_figures.points_of_figure_2())
    assert [p["model"] for p in best] == ["HaloNet", "Mixer-L/16", "ViT-L/16", "Mixer-H/14", "NFNet-F4+", "MPL"]


def test_a_point_that_costs_more_for_the_same_accuracy_is_off_the_frontier():
    points = [
        dict(cost=1, accuracy=80),
        dict(cost=2, accuracy=80),
        dict(cost=1, accuracy=79),
        dict(cost=3, accuracy=81),
    ]
    assert paper_figures.pareto(points) == [points[0], points[3]]


@pytest.mark.parametrize(("cost", "without"), [("core_days", set()), ("throughput", {"MPL"})])
def test_every_published_row_is_there_once(cost, without):
    points = paper_figures.points_of_both(cost)
    published = {(row[0], row[1], row[2]) for row in paper.TABLE_2} | {(r[0], r[1], r[4]) for r in paper.TABLE_3}
    found = [(p["pre_trained_on"], p["model"], p["accuracy"]) for p in points]
    assert len(found) == len(set(found))
    assert set(found) == {row for row in published if row[1] not in without}


def test_families_follow_from_the_names():
    names = {row[1] for row in paper.TABLE_2} | {row[1] for row in paper.TABLE_3}
    by_family = {family: {n.split("-")[0] for n in names if paper.family_of(n) == family} for family in paper.FAMILIES}
    assert by_family == {
        "MLP": {"Mixer"},
        "attention": {"ViT", "HaloNet"},
        "convolution": {"BiT", "NFNet", "MPL", "ALIGN"},
    }


def test_published_and_measured_are_told_apart(tmp_path, monkeypatch):
    seen = _figures(monkeypatch)
    published = [dict(model="Mixer-B/16", accuracy=80.0, cost=0.1), dict(model="ViT-B/16", accuracy=84.0, cost=0.2)]
    measured = [dict(model="Mixer, runs/mine", accuracy=79.0, cost=0.15)]
    paper_figures.write_costs(tmp_path / "a.png", "title", published, measured, "cost", frontier=True)
    [axes] = seen[0].axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["MLP, published", "MLP, measured here", "attention, published", "convolution, published"]
    looks = {c.get_label(): (c.get_offsets().tolist(), len(c.get_facecolors())) for c in axes.collections}
    assert looks["MLP, measured here"] == ([[0.15, 79.0]], 0)  # hollow
    assert looks["attention, published"] == ([[0.2, 84.0]], 1)
    [line] = axes.lines
    assert line.get_linestyle() == "--"
    assert line.get_xydata().tolist() == [[0.1, 80.0], [0.2, 84.0]]
    assert {text.get_text() for text in axes.texts} == {"Mixer-B/16", "ViT-B/16", "Mixer, runs/mine"}


@pytest.mark.parametrize("cost", ["core_days", "throughput"])
def test_no_name_lies_over_another(tmp_path, monkeypatch, cost):
    seen = _figures(monkeypatch)
    paper_figures.write_costs(tmp_path / "a.png", "title", paper_figures.points_of_both(cost), [], cost)
    [figure] = seen
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    over = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert over == []


def test_the_drawing_says_the_shapes(tmp_path, monkeypatch):
    seen = _figures(monkeypatch)
    shapes = dict(image_size=224, image_channels=3, patch_size=16, tokens=196, channels=768, num_blocks=12)
    shapes |= dict(tokens_mlp_dim=384, channels_mlp_dim=3072, classes=1000)
    mixer_drawing.write_drawing(tmp_path / "a.png", "Mixer-B/16", shapes)
    texts = " ".join(text.get_text() for text in seen[0].axes[0].texts).replace("\n", " ")
    for said in (
        "196 patches of 16 x 16",
        "S = 196 tokens, C = 768",
        "Dense 196 to 384",
        "Dense 768 to 3072",
        "12 blocks",
    ):
        assert said in texts
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] > 1500
