import numpy as np
import pandas as pd

from analysis.page.figure_style import draw_svg
from analysis.replays.plot import plot_regret


def _curves() -> pd.DataFrame:
    frames = []
    for name, shift in (("random", 0.0), ("evolve", -0.01), ("a$b", 0.01)):
        counts = np.arange(1, 21)
        lines = {"regret": 0.1 / counts + shift + 0.02, "difference_to_random": np.full(20, shift)}
        if name == "random":
            lines["difference_to_random"] = np.full(20, np.nan)
        columns = {f"{line}{end}": values + error for line, values in lines.items()
                   for end, error in (("", 0), ("_low", -0.005), ("_high", 0.005))}  # fmt: skip
        frames.append(pd.DataFrame({"strategy": name, "trainings": counts * 3, **columns}))
    return pd.concat(frames)


def test_each_strategy_has_a_line_and_a_band_in_both_panels_and_random_is_the_zero_line() -> None:
    curves = _curves()
    figure = plot_regret(curves, "log validation loss", "36 patterns")
    regret, difference = figure.axes
    lines = {str(line.get_label()): line for line in regret.get_lines()}
    assert list(lines) == ["random", "evolve", r"a\$b"]
    assert len(regret.collections) == 3
    assert len(difference.collections) == 2
    drawn = np.asarray(lines["evolve"].get_xydata())
    assert drawn[:, 0].tolist() == list(range(3, 63, 3))
    assert drawn[:, 1].tolist() == curves[curves["strategy"] == "evolve"]["regret"].tolist()
    shown = difference.get_lines()
    assert [np.asarray(line.get_ydata())[0] for line in shown] == [-0.01, 0.01, 0]
    assert len({line.get_color() for line in regret.get_lines()}) == 3
    assert lines["evolve"].get_color() == shown[0].get_color()


def test_the_same_curves_give_the_same_svg() -> None:
    first, second = (draw_svg(plot_regret(_curves(), "log validation loss", "36 patterns")) for _ in range(2))
    assert first == second
    assert "36 patterns" in first
    assert "regret (log validation loss)" in first
