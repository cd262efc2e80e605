"""Where an outcome turns: two lines on both sides of a turning point."""

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm

from analysis.verdict.sample import Sample
from analysis.verdict.shape import measure_shape


def draw(form: str, seed: int = 0, n: int = 72) -> Sample:
    """A sample whose outcome has a form along mean BD."""
    generator = np.random.default_rng(seed)
    x, span = generator.uniform(-1, 1, (2, n))
    y = {
        "valley": (x - 0.2) ** 2,
        "hill": -((x - 0.2) ** 2),
        "rise": x,
        "convex rise": np.exp(3 * x) / 8,
        "flat then rising": np.maximum(x, 0) ** 2,
    }[form]
    return Sample.from_arrays(3 * y[:, None] + 0.3 * generator.normal(size=(n, 4)), {"mean_bd": x, "span": span})


def test_both_slopes_are_those_of_an_interrupted_regression() -> None:
    sample = draw("valley")
    shape = measure_shape(sample, "mean_bd")
    assert shape is not None
    x, span, y = (scipy.stats.rankdata(column) / 72 for column in (*sample.columns.values(), sample.means))
    held = np.column_stack([span, span**2])
    parabola = sm.OLS(y, sm.add_constant(np.column_stack([held, x, x**2]))).fit().params
    turn = -parabola[-2] / (2 * parabola[-1])
    above = x > turn
    columns = np.column_stack([held, above, np.where(above, 0, x - turn), np.where(above, x - turn, 0)])
    fit = sm.OLS(y, sm.add_constant(columns)).fit(cov_type="HC3", use_t=True)
    assert [shape.below, shape.above] == pytest.approx(fit.params[-2:].tolist())
    assert shape.p_value == pytest.approx(fit.pvalues[-2:].max())
    assert shape.turning_point == pytest.approx(0.2, abs=0.1)
    assert shape.middle_is_best


@pytest.mark.parametrize(
    ("form", "least", "most"),
    [("valley", 38, 40), ("hill", 38, 40), ("rise", 0, 2), ("convex rise", 0, 2), ("flat then rising", 0, 2)],
)
def test_only_what_turns_is_u_shaped(form: str, least: int, most: int) -> None:
    shapes = [measure_shape(draw(form, seed), "mean_bd") for seed in range(40)]
    turned = [shape for shape in shapes if shape is not None and shape.p_value <= 0.01]
    assert least <= len(turned) <= most
    assert all(shape.middle_is_best == (form == "valley") for shape in turned) or least == 0


def test_too_few_patterns_on_a_side_have_no_shape() -> None:
    x = np.arange(9.0)
    sample = Sample.from_arrays((x[:, None] - 4) ** 2 + np.zeros((9, 3)), {"mean_bd": x, "span": x**3 % 5})
    assert measure_shape(sample, "mean_bd") is None
