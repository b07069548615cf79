"""`recipes/contact_sheet.py` as users run it."""

from PIL import Image
from trained import run_recipe, trained_run


def _run(*flags):
    return run_recipe("contact_sheet", "--batch_size=6", *flags, check=False)


def test_it_writes_a_picture_of_the_batch_of_a_step(tmp_path):
    result = _run(f"--workdir={tmp_path}", "--step=3", "--randaugment_magnitude=5")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"6 images of digits train are in {tmp_path / 'step_00000003.png'}\n"
    with Image.open(tmp_path / "step_00000003.png") as image:
        assert image.width > 4 * image.height > 0


def test_with_a_run_it_shows_the_batches_of_that_run(tmp_path, tmp_path_factory):
    run = trained_run(tmp_path_factory)  # without mixup
    run_recipe("contact_sheet", f"--weights={run}", f"--workdir={tmp_path / 'run'}", "--step=2")
    by_hand = ("--batch_size=64", "--mixup_alpha=0", "--step=2")
    run_recipe("contact_sheet", *by_hand, f"--workdir={tmp_path / 'hand'}")
    pictures = [tmp_path / name / "step_00000002.png" for name in ("run", "hand")]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    refused = run_recipe("contact_sheet", f"--weights={run / 'model.keras'}", check=False)
    assert refused.returncode == 2
    assert refused.stderr.endswith("is no run, and tells of no training batches; leave --weights out.\n")


def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path):
    result = _run(f"--workdir={tmp_path}", "--mixup_alpha=-1")
    assert result.returncode == 2
    assert result.stderr == "error: mixup_alpha: must be a number that is not negative, got -1.0; use 0 for none.\n"
    assert not list(tmp_path.iterdir())
