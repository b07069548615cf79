"""`recipes/contact_sheet.py` as users run it."""

from PIL import Image
from trained import run_recipe


def _run(*flags):
    return run_recipe("contact_sheet", "--batch_size=6", *flags, check=False)


def test_it_writes_a_picture_of_the_batch_of_a_step(tmp_path):
    result = _run(f"--workdir={tmp_path}", "--step=3", "--randaugment_magnitude=5")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"6 images of digits train are in {tmp_path / 'step_00000003.png'}\n"
    with Image.open(tmp_path / "step_00000003.png") as image:
        assert image.width > 4 * image.height > 0


def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path):
    result = _run(f"--workdir={tmp_path}", "--mixup_alpha=-1")
    assert result.returncode == 2
    assert result.stderr == "error: mixup_alpha: must be a number that is not negative, got -1.0; use 0 for none.\n"
    assert not list(tmp_path.iterdir())
