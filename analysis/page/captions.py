"""Captions and file names of figures."""

import hashlib

import pandas as pd

from analysis.page.wording import enumerate_words, name_budgets
from analysis.report.findings import Findings
from analysis.study.view import View

MAX_SLUG = 48  # characters


def describe_data(findings: Findings, view: View | None = None) -> str:
    """n, seeds, budget, data and device, for a caption; of one stratum, or of the whole run."""
    run = findings.run
    views = findings.views if view is None else (view,)
    seeds = pd.concat([one.patterns["n_seeds"] for one in views])
    span = str(seeds.max()) if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    n_patterns = pd.concat([one.patterns["key"] for one in views]).nunique()
    depths = enumerate_words([*map(str, dict.fromkeys(one.stratum.layers for one in views))])
    regimes = [one.stratum.regime for one in views if one.stratum.regime is not None]
    budgets = name_budgets([one.stratum.budget for one in views])
    parts = [
        f"{n_patterns} pattern{'' if n_patterns == 1 else 's'} x {span} seed{'' if span == '1' else 's'}",
        f"{budgets}, {depths} layers",
    ]
    if regimes:
        parts.append(" and ".join(dict.fromkeys(regimes)))
    if run.data.get("name"):
        n_train = run.data.get("n_train")
        parts.append(f"{run.data['name']}" + (f" ({n_train} training images)" if n_train else ""))
    if run.config.get("epochs") and run.kind == "search":
        parts.append(f"{run.config['epochs']} epochs")
    if run.environment.get("device"):
        parts.append(str(run.environment["device"]))
    return ", ".join(parts)


def name_file(view: View, name: str) -> str:
    """A picture's file name: the stratum's name after its own where the report has several."""
    slug = "".join(c if c.isalnum() else "-" for c in view.name.lower())
    if len(slug) > MAX_SLUG:  # a budget may list an in-degree for each layer
        slug = f"{slug[:MAX_SLUG]}-{hashlib.sha256(view.name.encode()).hexdigest()[:8]}"
    return f"{name}{'_' if slug else ''}{slug}.svg".replace("--", "-")
