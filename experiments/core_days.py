"""TPU v3 core-days of the paper's Table 3, computed beside the published: the table of docs/results/many_devices.md.

python experiments/core_days.py
"""

from keras_mixer import cost_model
from keras_mixer.benchmark.markdown import table

EXTRAPOLATED = ("ImageNet", "ImageNet-21k")  # by the authors, from JFT-300M


def number(days):
    """Three digits."""
    return f"{days:,.0f}" if days >= 100 else f"{days:.3g}"


if __name__ == "__main__":
    rows = []
    for row in cost_model.table_3_core_days():
        mark = " ‡" if row.trained_on in EXTRAPOLATED else ""
        days = number(row.computed), f"{row.published:,.0f}", f"{row.computed / row.published:.2f}"
        rows.append((row.trained_on, row.model.removeprefix("Mixer-") + mark, row.epochs, *days))
    print(table(("trained on", "Mixer", "epochs", "computed", "published", "computed / published"), rows))
