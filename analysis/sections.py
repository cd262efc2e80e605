"""findings -> the report's sections, as a document."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.document import Block, Code, Heading, Paragraph, Picture, Table
from analysis.findings import N_BEST, Findings
from analysis.reach import Reach
from analysis.statistics import Correlation, Stratum
from analysis.wording import NONE, format_percent, format_value, format_with_error, name_briefly, name_pattern
from search_spaces.arcs import draw_arcs
from search_spaces.bounds import certify
from search_spaces.budget import parse_budget
from search_spaces.pattern import ConnectionPattern

N_DRAWN = 3
N_FAILURES = 20


def build_blocks(findings: Findings) -> Iterator[Block]:
    """Everything the report says, in order."""
    yield Heading(1, title(findings))
    yield from _headline(findings)
    yield Heading(2, "Accuracy against distance")
    yield from _distance_section(findings)
    yield Heading(2, "The best patterns")
    yield from _best_section(findings)
    if findings.patterns["template"].notna().any():
        yield Heading(2, "How the templates compare")
        yield from _certificate_table(findings)
        yield from _template_section(findings)
    yield Heading(2, "Does distance explain the outcome?")
    yield from _correlation_section(findings)
    yield Heading(2, "Learning curves")
    yield from _curve_section(findings)
    if findings.status["failed"] or findings.status["pruned"]:
        yield Heading(2, "Failures")
        yield from _failure_section(findings)
    yield Heading(2, "Provenance")
    yield from _provenance_section(findings)


def title(findings: Findings) -> str:
    """The report's heading."""
    stratum = findings.strata[0]
    return f"Skip connections of {stratum.layers} layers, budget {stratum.budget}"


def _headline(findings: Findings) -> Iterator[Block]:
    status, stratum = findings.status, findings.strata[0]
    n_left = (status["asked"] or 0) - sum(status[state] for state in ("complete", "failed", "pruned", "running"))
    missing = [f"{status[state]} {state}" for state in ("failed", "pruned", "running") if status[state]]
    missing += [f"{n_left} not begun"] if n_left > 0 else []
    if missing:
        asked = f" of {status['asked']} asked for" if status["asked"] else ""
        yield Paragraph(
            f"Incomplete: {status['complete']} candidates{asked} are complete ({', '.join(missing)}). What follows "
            "rests on the complete ones alone.", is_notice=True,
        )  # fmt: skip
    if len(findings.strata) > 1:
        others = "; ".join(f"{one.layers} layers at {one.budget}" for one in findings.strata[1:])
        yield Paragraph(f"This study mixes budgets, which never compare: {others} are left out here.", is_notice=True)
    params = findings.patterns["params"].dropna()
    if len(params) and params.min() < params.max():
        yield Paragraph(
            f"These networks differ in cost, {params.min():,} to {params.max():,} parameters: a difference in accuracy "
            "may be one of size. With stem and transitions of growth channels all would cost the same.", is_notice=True,
        )  # fmt: skip
    best = findings.patterns.iloc[0]
    seeds = f"{best['n_seeds']} seed{'s' if best['n_seeds'] > 1 else ''}"
    yield Paragraph(f"Trained: {_caption(findings)}.")
    accuracy = format_percent(best, "validation_accuracy")
    yield Paragraph(
        f"Best pattern by mean validation accuracy: {name_pattern(best)}, mean backprop distance "
        f"{best['mean_bd']:.3f}, accuracy {accuracy} % over {seeds}. The best of {len(findings.patterns)} was picked "
        "by this number, so expect less of it on new data."
    )
    yield Paragraph(f"Verdict: {stratum.verdict.sentence}.")


def _caption(findings: Findings) -> str:
    run, stratum = findings.run, findings.strata[0]
    seeds = findings.patterns["n_seeds"]
    span = str(seeds.max()) if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    parts = [
        f"{len(findings.patterns)} patterns x {span} seed{'' if span == '1' else 's'}",
        f"budget {stratum.budget}, {stratum.layers} layers",
    ]
    if run.data.get("name"):
        n_train = run.data.get("n_train")
        parts.append(f"{run.data['name']}" + (f" ({n_train} training images)" if n_train else ""))
    if run.config.get("epochs"):
        parts.append(f"{run.config['epochs']} epochs")
    if run.environment.get("device"):
        parts.append(str(run.environment["device"]))
    return ", ".join(parts)


def _distance_section(findings: Findings) -> Iterator[Block]:
    from analysis.plots import draw_svg, plot_distance_accuracy  # matplotlib: half a second

    uniform = findings.uniform
    shaded = (uniform.low, uniform.high) if uniform else None
    figure = plot_distance_accuracy(findings.patterns, findings.candidates, shaded, _caption(findings))
    description = "Large marks: patterns, mean over seeds with one standard error; small dots: single trainings."
    yield Picture("distance.svg", draw_svg(figure), description)
    if uniform:
        yield Paragraph(f"Uniform random sampling, {uniform.n_patterns} draws at this budget: {_describe(uniform)}.")


def _describe(reach: Reach) -> str:
    text = f"mean BD {reach.low:.3f} to {reach.high:.3f} (1 % to 99 %); no pattern is below {reach.bound:.3f}"
    if reach.farthest is not None and reach.share is not None:
        text += f" and the farthest has {reach.farthest:.3f}, so this covers {100 * reach.share:.1f} % of that range"
    return text


def _best_section(findings: Findings) -> Iterator[Block]:
    header = ("", "pattern", "strategy", "mean BD", "max BD", "span", "seeds", "accuracy (%)", "loss (nats)")
    top = [row for _, row in findings.patterns.head(N_BEST).iterrows()]
    yield Table(header, tuple(_best_row(place, row) for place, row in enumerate(top, start=1)))
    yield Paragraph(
        "Means over seeds with one standard error. Patterns trained at every seed come first, then higher accuracy, "
        "then lower loss; neighbours in this list are often within the noise."
    )
    named = [row for _, row in findings.patterns.dropna(subset=["template"]).iterrows()]
    drawn = {row["key"]: row for row in (*top[:N_DRAWN], *named)}
    for key, row in drawn.items():
        picture = draw_arcs(_pattern(row), name_briefly(row), width=460)
        accuracy = format_percent(row, "validation_accuracy")
        yield Picture(f"arcs_{key[:12]}.svg", picture, f"{name_pattern(row)}: accuracy {accuracy} %", is_small=True)


def _best_row(place: int, row: "pd.Series[Any]") -> tuple[str, ...]:
    return (
        str(place),
        name_pattern(row),
        format_value(row["strategy"]),
        f"{row['mean_bd']:.3f}",
        format_value(row["max_bd"]),
        f"{row['span']:.2f}",
        str(row["n_seeds"]),
        format_percent(row, "validation_accuracy"),
        format_with_error(row["validation_loss"], row["validation_loss_sd"] / row["n_seeds"] ** 0.5, 3),
    )


def _certificate_table(findings: Findings) -> Iterator[Block]:
    stratum = findings.strata[0]
    budget = parse_budget(stratum.budget, stratum.layers)
    rows = []
    for _, row in findings.patterns.dropna(subset=["template"]).sort_values("mean_bd").iterrows():
        found = certify(_pattern(row), budget)
        distances = (f"{row['mean_bd']:.4f}", f"{found.bound:.4f}", f"{100 * found.gap:.1f}")
        rows.append((row["template"], *distances, format_value(row["max_bd"]), found.status))
    yield Table(("template", "mean BD", "proven bound", "above it (%)", "max BD", "certificate"), tuple(rows))
    yield Paragraph(
        "No pattern of this budget has a mean BD below the bound. Optimal: none has a lower mean; max-optimal: none "
        "has a lower maximum."
    )


def _pattern(row: "pd.Series[Any]") -> ConnectionPattern:
    sources = tuple(map(tuple, json.loads(row["sources"])))
    return ConnectionPattern(len(sources), sources)


def _template_section(findings: Findings) -> Iterator[Block]:
    header = ("template", "seeds", "accuracy (%)", "difference to the best template (points)", "shared seeds")
    rows = [
        (
            one.name,
            str(one.n_seeds),
            format_with_error(100 * one.mean, None if one.standard_error is None else 100 * one.standard_error, 2),
            NONE if one.difference is None else _difference(one.difference, one.difference_error),
            str(one.n_shared_seeds) if one.difference is not None else NONE,
        )
        for one in findings.comparisons
    ]
    yield Table(header, tuple(rows))
    yield Paragraph(
        "Mean and one standard error over seeds. The differences are paired: each seed gives every pattern the same "
        "split, initial weights and data order. The best template was picked by this number; a difference below twice "
        "its error is not evidence."
    )


def _difference(value: float, error: float | None) -> str:
    text = format_with_error(100 * value, None if error is None else 100 * error, 2)
    return text if text.startswith("-") else f"+{text}"


def _correlation_section(findings: Findings) -> Iterator[Block]:
    stratum = findings.strata[0]
    yield Paragraph(stratum.verdict.sentence[0].upper() + stratum.verdict.sentence[1:] + ".")
    if stratum.correlations:
        header = ("distance", "outcome", "statistic", "value", "95 % interval", "p", "p (Holm)", "patterns")
        yield Table(header, tuple(map(_correlation_row, stratum.correlations)))
    yield from map(Paragraph, _caveats(stratum))


def _correlation_row(one: Correlation) -> tuple[str, ...]:
    estimate = one.estimate
    name = {"spearman": "Spearman", "kendall": "Kendall tau-b"}[one.method]
    undefined = estimate.value is None
    return (
        one.distance + (f" given {one.given}" if one.given else ""),
        one.outcome,
        name,
        "not defined" if undefined else f"{estimate.value:+.2f}",
        NONE if estimate.low is None else f"{estimate.low:+.2f} to {estimate.high:+.2f}",
        NONE if estimate.p_value is None else f"{estimate.p_value:.3f}",
        NONE if one.p_holm is None else f"{one.p_holm:.3f}",
        str(one.n_patterns),
    )


def _caveats(stratum: Stratum) -> Iterator[str]:
    used, left = (", ".join(f"{n} {name}" for name, n in counts.items()) for counts in (stratum.used, stratum.left_out))
    yield (
        f"Sample: {used or 'no pattern'}, means over up to {stratum.n_seeds} seeds, centred by seed"
        + (f", {stratum.n_incomplete} lacking some seeds" if stratum.n_incomplete else "")
        + (f"; left out, being no random sample: {left}" if left else "")
        + ". Even a clear correlation in it shows no cause."
    )
    rhos = {name: rho for name, rho in stratum.collinearity.items() if rho is not None}
    if rhos:
        told = ", ".join(f"{name.replace('_', ' ')} {rho:+.2f}" for name, rho in rhos.items())
        yield (
            f"Confounding: rank correlation of mean BD, among these patterns, with {told}. Where that is strong, an "
            "effect of distance cannot be told from an effect of the other; a crossed design can."
        )
    if stratum.reach:
        yield f"Reach of the sample: {_describe(stratum.reach)}. Outside that range it says nothing."
    for one in stratum.reliability:
        name = one.outcome.replace("_", " ")
        if one.ceiling is not None:
            yield (
                f"Noise: by estimate, {one.single_seed:.2f} of the variance of one training's {name} lies between "
                f"patterns, {one.paired_mean:.2f} of that of the mean of {one.n_seeds} seeds (n={one.n_patterns} "
                "patterns; below 0 means none that can be told from noise): even a perfect predictor would show a "
                f"correlation of about {one.ceiling:.2f}."
            )
    if all(one.ceiling is None for one in stratum.reliability):
        yield "Noise: not known, for that takes two patterns or more that share two seeds or more."


def _curve_section(findings: Findings) -> Iterator[Block]:
    from analysis.plots import draw_svg, plot_curves

    curves = findings.run.curves[findings.run.curves["number"].isin(findings.candidates["number"])]
    if curves.empty:
        yield Paragraph("This study holds no learning curves.")
        return
    figure = plot_curves(curves, findings.candidates, findings.patterns["key"].iloc[0], _caption(findings))
    yield Picture(
        "curves.svg", draw_svg(figure), "Training loss by epoch; templates and the best pattern: means over seeds."
    )


def _failure_section(findings: Findings) -> Iterator[Block]:
    candidates = findings.run.candidates
    failed = candidates[candidates["state"].isin(["failed", "pruned"])]
    header = ("candidate", "state", "pattern", "seed", "reason")
    rows = [
        (
            format_value(row["number"]),
            row["state"],
            name_pattern(row),
            format_value(row["seed"]),
            format_value(row["error"]),
        )
        for _, row in failed.head(N_FAILURES).iterrows()
    ]
    yield Table(header, tuple(rows))
    if len(failed) > N_FAILURES:
        yield Paragraph(f"And {len(failed) - N_FAILURES} more: see candidates.csv.")


def _provenance_section(findings: Findings) -> Iterator[Block]:
    run = findings.run
    groups = {"run": findings.status | {"best": None}, "data": run.data, "environment": run.environment}
    groups |= {"setting": run.config}
    rows = [
        (group, str(name), value if isinstance(value, str) else json.dumps(value))
        for group, values in groups.items()
        for name, value in values.items()
        if value is not None
    ]
    yield Table(("", "name", "value"), tuple(rows))
    path = shlex.quote(str(run.path))
    storage = shlex.quote(f"sqlite:///{run.path / 'study.db'}")
    yield Paragraph("To go on with this run, and to browse its study:")
    yield Code(f"python run_search.py search --run {path}\noptuna-dashboard {storage}")
