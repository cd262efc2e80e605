"""Make small mistakes in the program on purpose, one at a time, and show which of them the default tests catch.

python scripts/faults.py [--only NAME ...] [--out FILE.csv]    writes the table to FILE.csv too
python scripts/faults.py --check                               runs no test: only lists the faults that are stale
"""

import argparse
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 180.0  # seconds that the tests of one fault may take
PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", "0", "--hypothesis-seed=0")


@dataclass(frozen=True, slots=True)
class Fault:
    """A small mistake.

    Args:
        name: what is wrong, in a few words.
        file: the file to change, from the root of the repository.
        old: text that the file has exactly once.
        new: text in its place while the tests run.
        tests: files with tests of its subject.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def is_stale(self) -> bool:
        """Whether the mistake cannot be made any more, or one of its files of tests is gone."""
        path = ROOT / self.file
        n_found = path.read_text(encoding="utf-8").count(self.old) if path.exists() else 0
        return n_found != 1 or not all((ROOT / name).exists() for name in self.tests)


@dataclass(frozen=True, slots=True)
class Result:
    """What the tests made of a fault.

    Args:
        status: caught; timeout if the tests took too long, which counts as caught too; missed; or stale, see Fault.
    """

    name: str
    status: str
    seconds: float


# fmt: off
FAULTS = (
    # --- search_spaces ---
    Fault("budget-refuses-chain", "search_spaces/budget.py",
          "if not self.depth <= total <= most:", "if not self.depth < total <= most:",
          ("tests/search_spaces/test_budget.py",)),
    Fault("budget-forgets-max-out", "search_spaces/budget.py",
          "max(pattern.out_degrees) > self.max_out", "min(pattern.out_degrees) > self.max_out",
          ("tests/search_spaces/test_caps.py",)),
    Fault("distance-wrong-denominator", "search_spaces/distance.py",
          "for i in range(1, depth + 1)) / depth", "for i in range(1, depth + 1)) / (depth + 1)",
          ("tests/search_spaces/test_distance.py",)),
    Fault("walk-starts-at-the-input-too-often", "search_spaces/measures/walks.py",
          "chances[node] += 1 / len(reads)", "chances[node] += 1 / (len(reads) + 1)",
          ("tests/search_spaces/measures/test_closed_forms.py",)),
    Fault("walk-kernel-forgets-the-division", "search_spaces/measures/compiled.py",
          "plain_entropy / length + math.log(length)", "plain_entropy + math.log(length)",
          ("tests/search_spaces/measures/test_compiled.py",)),
    Fault("kernel-distance-from-a-read-layer", "search_spaces/measures/compiled.py",
          "from_loss[node] = 1", "from_loss[node] = 2",
          ("tests/search_spaces/measures/test_compiled.py",)),
    Fault("cover-includes-the-source", "search_spaces/measures/placement.py",
          "changes[source + 1] += 1", "changes[source] += 1",
          ("tests/search_spaces/measures/test_registry.py",)),
    Fault("package-takes-our-name", "search_spaces/plugins.py",
          "if entry.name in taken:", "if entry.name in ():",
          ("tests/search_spaces/measures/test_entry_points.py",)),
    Fault("plugin-of-another-version-unnoticed", "nas/settings/environment.py",
          "or earlier == {**now,", "or earlier != {**now,",
          ("tests/plugins/test_found.py",)),
    Fault("plugin-strategy-repeats-a-training", "nas/search/strategies/registry.py",
          "pattern == pattern and training.seed == seed", "pattern == pattern and training.seed < seed",
          ("tests/plugins/test_found.py",)),
    Fault("sampler-told-what-it-suggested-of-one-seed", "nas/search/strategies/sampler.py",
          "value=fmean(costs) if costs", "value=costs[0] if costs",
          ("tests/nas/search/test_samplers.py",)),
    Fault("plugin-merge-starts-anyhow", "nas/model/network.py",
          "start_brought(network, candidate.seed)", "start_brought(network, 0)",
          ("tests/plugins/test_found.py",)),
    Fault("table-walks-from-the-last-layer", "analysis/data/results.py",
          "(*ALWAYS_SHOWN, *declared), reads)", "(*ALWAYS_SHOWN, *declared), reads[-1:])",
          ("tests/analysis/data/test_results.py",)),
    Fault("bound-without-clamp", "search_spaces/sampling/bounds.py",
          "max(0, n_lacking)", "n_lacking",
          ("tests/search_spaces/sampling/test_bounds.py",)),
    Fault("bound-of-reach-off-by-one", "search_spaces/sampling/bounds.py",
          "largest[: degree - 1]", "largest[:degree]",
          ("tests/search_spaces/sampling/test_bounds.py",)),
    Fault("certificate-claims-too-much", "search_spaces/sampling/bounds.py",
          "distance.max == bound_max(budget)", "distance.max >= bound_max(budget)",
          ("tests/search_spaces/sampling/test_bounds.py", "tests/search_spaces/sampling/test_optimal.py")),
    Fault("annealing-ignores-its-generator", "search_spaces/sampling/annealing.py",
          "*temperatures, True, seed)", "*temperatures, True, np.uint64(7))",
          ("tests/search_spaces/sampling/test_annealing.py", "tests/search_spaces/sampling/test_optimal.py")),
    Fault("cooling-forgets-a-loss-through-the-new-source", "search_spaces/sampling/cooling.py",
          "            within_3 |= above_1\n", "            within_3 |= within_2\n",
          ("tests/search_spaces/sampling/test_cooling.py",)),
    Fault("annealing-chain-not-first", "search_spaces/sampling/annealing.py",
          "= inputs[::-1]", "= inputs",
          ("tests/search_spaces/sampling/test_annealing.py",)),
    Fault("sampling-wrong-side", "search_spaces/sampling/draw.py",
          'chosen, side="right"', 'chosen, side="left"',
          ("tests/search_spaces/sampling/test_draw.py",)),
    Fault("wide-draw-breaks-max-in", "search_spaces/sampling/draw.py",
          "if self.n_missing and self._room_in[target] and", "if self.n_missing and",
          ("tests/search_spaces/sampling/test_wide.py",)),
    Fault("sampling-same-chain-again", "search_spaces/sampling/cells.py",
          'derive_generator(seed, "cell", number)', 'derive_generator(seed, "cell")',
          ("tests/search_spaces/sampling/test_cells.py", "tests/search_spaces/sampling/test_design.py")),
    Fault("cells-beyond-what-is-reached", "search_spaces/sampling/cells.py",
          "if not all(self._is_reached(cell)", "if not any(self._is_reached(cell)",
          ("tests/search_spaces/sampling/test_design.py",)),
    Fault("cell-of-the-opposite-bins", "search_spaces/sampling/cells.py",
          "{name: own[place] for name, own, place", "{name: own[-1 - place] for name, own, place",
          ("tests/search_spaces/sampling/test_design.py",)),
    Fault("design-draws-from-whole-cells", "search_spaces/sampling/design.py",
          "tile(band, n_parts)[place]", "tile(band, 1)[0]",
          ("tests/search_spaces/sampling/test_design.py",)),
    Fault("design-control-of-any-span", "search_spaces/sampling/design.py",
          "Band((1 - CONTROL_SPAN) * optimum.span, (1 + CONTROL_SPAN) * optimum.span)",
          "Band(1.0, float(budget.depth))",
          ("tests/search_spaces/sampling/test_design.py",)),
    Fault("template-evenly-too-narrow", "search_spaces/rules.py",
          "(k * layer) // n_inputs", "(k * layer) // (n_inputs + 1)",
          ("tests/search_spaces/test_templates.py",)),
    Fault("template-file-key-twice", "nas/records/safe_files.py",
          "if len(table) < len(pairs):", "if len(table) > len(pairs):",
          ("tests/nas/records/test_template.py", "tests/nas/records/test_hostile.py")),
    Fault("template-claims-believed", "nas/records/template.py",
          "rel_tol=1e-9, abs_tol=1e-12", "rel_tol=1e-1, abs_tol=1e-12",
          ("tests/nas/records/test_template.py", "tests/nas/export/test_verify.py")),
    Fault("written-file-not-synced", "nas/records/safe_files.py",
          "os.fsync(stream.fileno())", "stream.fileno()",
          ("tests/nas/records/test_template.py",)),
    Fault("write-not-atomic", "nas/records/safe_files.py",
          "temporary.replace(path)", "path.write_bytes(temporary.read_bytes())",
          ("tests/nas/records/test_template.py", "tests/nas/training/test_checkpoints.py")),
    Fault("users-changed-file-removed", "nas/records/written.py",
          "if existing.get(name) in own[name]:", "if name in own:",
          ("tests/nas/records/test_written.py",)),
    Fault("strongest-are-the-weakest", "search_spaces/wiring/strongest.py",
          "(-relative[pair],", "(relative[pair],",
          ("tests/search_spaces/wiring/test_strongest.py",)),
    # --- nas ---
    Fault("cost-forgets-a-batch-norm", "nas/model/cost.py",
          "height, width) + _batch_norm(wide)", "height, width)",
          ("tests/nas/model/test_cost.py",)),
    Fault("condensing-drops-the-strongest", "nas/modules/learned_convolution.py",
          "descending=True", "descending=False",
          ("tests/nas/modules/test_learned_convolution.py",)),
    Fault("condensing-forgets-what-it-dropped", "nas/modules/learned_convolution.py",
          "self.mask &= torch.zeros_like(self.mask).scatter_(1, kept, True)",
          "self.mask.zero_().scatter_(1, kept, True)",
          ("tests/nas/modules/test_learned_convolution.py",)),
    Fault("converted-outputs-not-by-group", "nas/modules/learned_convolution.py",
          "weights.transpose(0, 1).reshape", "weights.reshape",
          ("tests/nas/model/test_condensing.py",)),
    Fault("memory-of-bottlenecks-counted-once", "nas/model/cost.py",
          "2 * BOTTLENECK_FACTOR * network.growth", "BOTTLENECK_FACTOR * network.growth",
          ("tests/nas/model/test_activation_memory.py",)),
    Fault("fisher-of-the-mean-image", "nas/model/proxies.py",
          "flow.square().mean(0) / 2", "flow.mean(0).square() / 2",
          ("tests/nas/model/test_proxies.py",)),
    Fault("fused-variance-biased", "nas/engines/fused_layers.py",
          "variance * (n_values / (n_values - 1))", "variance * 1.0",
          ("tests/nas/engines/test_fused_layers.py",)),
    Fault("fused-stale-channels", "nas/engines/fused_layers.py",
          "self._channels.copy_(", "self._channels.clone().copy_(",
          ("tests/nas/training/test_stepping.py", "tests/nas/model/test_cohort.py",
           "tests/nas/engines/test_fused_layers.py")),
    Fault("cohort-optimiser-of-another-member", "nas/model/cohort.py",
          "None if x is None else _cut(x, member,", "None if x is None else _cut(x, 0,",
          ("tests/nas/model/test_cohort.py",)),
    Fault("cohort-loss-averaged-over-members", "nas/training/stepping.py",
          "total = losses.sum()", "total = losses.mean()",
          ("tests/nas/model/test_cohort.py",)),
    Fault("stepping-momentum-kept", "nas/training/stepping.py",
          'state["momentum_buffer"].zero_()', 'state["momentum_buffer"].abs()',
          ("tests/nas/training/test_stepping.py",)),
    Fault("evaluation-in-training-mode", "nas/training/evaluation.py",
          "network.eval()", "network.train()",
          ("tests/nas/training/test_train.py",)),
    Fault("schedule-ends-at-the-pause", "nas/training/train.py",
          "n_steps * config.epochs, config.lr_drops", "n_steps * self._last, config.lr_drops",
          ("tests/nas/training/test_train.py",)),
    Fault("every-epoch-in-one-order", "nas/training/train.py",
          'derive_seed(seed, "order", epoch)', 'derive_seed(seed, "order")',
          ("tests/nas/training/test_train.py",)),
    Fault("checkpoint-of-another-accepted", "nas/training/checkpoints.py",
          'values.pop("identity", None) != self.identity', 'values.pop("identity", None) is None',
          ("tests/nas/training/test_checkpoints.py",)),
    Fault("checkpoint-without-seed", "nas/workers/trainer.py",
          '"seed": candidate.seed,', "",
          ("tests/nas/training/test_train.py", "tests/nas/workers/test_trainer.py")),
    Fault("split-ignores-its-seed", "nas/data/splits.py",
          'derive_generator(seed, "validation")', 'derive_generator(0, "validation")',
          ("tests/nas/data/test_data_set.py",)),
    Fault("validation-trained-on", "nas/data/splits.py",
          "_list_others(data, data.test, validation)", "_list_others(data, data.test)",
          ("tests/nas/data/test_data_set.py",)),
    Fault("reader-turns-images", "nas/data/npz.py",
          "images.transpose(0, 3, 1, 2)", "images.transpose(0, 3, 2, 1)",
          ("tests/nas/data/test_data_set.py",)),
    Fault("reader-of-unknown-test-classes", "nas/data/npz.py",
          "len(classes) >= 2 and test.max() <= classes[-1]:", "len(classes) >= 2:",
          ("tests/nas/data/test_data_set.py",)),
    Fault("ledger-takes-another-study", "nas/run/ledger.py",
          "name not in renewed and existing[name] != value", "name not in renewed and existing[name] is None",
          ("tests/nas/run/test_ledger.py",)),
    Fault("ledger-completes-what-is-not-finite", "nas/records/metrics.py",
          "if not math.isfinite(value):", "if math.isnan(value):",
          ("tests/nas/run/test_ledger.py",)),
    Fault("lock-follows-a-link", "nas/run/lock.py",
          "os.O_CLOEXEC | os.O_NOFOLLOW, 0o644", "os.O_CLOEXEC, 0o644",
          ("tests/nas/run/test_lock.py",)),
    Fault("one-attempt-too-many", "nas/run/source.py",
          "if n_lost < self._max_attempts:", "if n_lost <= self._max_attempts:",
          ("tests/nas/run/test_source.py",)),
    Fault("given-back-counts-as-death", "nas/run/source.py",
          "0 if entry.returned else 1", "1 if entry.returned else 0",
          ("tests/nas/run/test_source.py",)),
    Fault("ray-time-limit-of-one", "nas/workers/ray_executor.py",
          "seconds * len(jobs), exit=True", "seconds, exit=True",
          ("tests/nas/workers/test_ray_executor.py",)),
    Fault("ray-takes-any-version", "nas/workers/ray_executor.py",
          'own["sources"] == config["sources"]', 'own["sources"] is not None',
          ("tests/nas/workers/test_ray_executor.py",)),
    Fault("halving-keeps-the-worst", "nas/search/halving.py",
          "key=lambda key: _mean(reached[key])", "key=lambda key: -_mean(reached[key])",
          ("tests/nas/search/test_halving.py",)),
    Fault("halving-rounds-down", "nas/search/halving.py",
          "math.ceil(len(ranked) / ETA)", "len(ranked) // ETA",
          ("tests/nas/search/test_halving.py",)),
    Fault("evolution-breeds-the-worst", "nas/search/strategies/evolution.py",
          "child = min((population[place]", "child = max((population[place]",
          ("tests/nas/search/test_strategies.py",)),
    Fault("lookahead-off-by-one", "nas/search/stratum.py",
          "(self._config.lookahead or 1) + 1", "(self._config.lookahead or 1)",
          ("tests/nas/search/test_stratum.py",)),
    Fault("bracket-is-known-to-itself", "nas/search/stratum.py",
          "n_known = min(n_known, self._find_open_bracket(self._halving))", "pass",
          ("tests/nas/search/test_stratum.py",)),
    Fault("patience-off-by-one", "nas/search/stratum.py",
          "costs.index(min(costs)) > self._config.patience", "costs.index(min(costs)) >= self._config.patience",
          ("tests/nas/search/test_early_ends.py",)),
    Fault("named-pattern-again-is-foreign", "nas/search/stratum.py",
          "entry.seed < _count_first_seeds(self._config)", "entry.seed >= 0",
          ("tests/nas/search/test_stratum.py",)),
    Fault("rung-replayed-by-the-end", "nas/search/stratum.py",
          "self.find_cost(entry.metrics_at(rung))", "self.find_cost(entry.outcome.metrics)",
          ("tests/nas/search/test_loop.py",)),
    Fault("tuned-rates-in-equal-steps", "nas/settings/study.py",
          "low * (high / low) ** (k / (count - 1))", "low + (high - low) * k / (count - 1)",
          ("tests/nas/settings/test_study.py",)),
    Fault("run-may-shrink", "nas/settings/resume.py",
          "isinstance(now, int) and now < asked", "isinstance(now, int) and now < 0",
          ("tests/nas/settings/test_resume.py",)),
    Fault("final-seeds-of-the-search", "nas/studies/final.py",
          "FIRST_SEED + k]", "k]",
          ("tests/nas/studies/test_final.py",)),
    Fault("export-of-infinite-logits", "nas/export/export.py",
          "not logits.isfinite().all()", "logits.isnan().all()",
          ("tests/nas/export/test_export.py",)),
    Fault("folder-replaced-piece-by-piece", "nas/export/folders.py",
          "folder.rename(folder.with_name(mark.old))", "shutil.rmtree(folder)",
          ("tests/nas/export/test_folders.py",)),
    Fault("verify-skips-packed-weights", "nas/export/archives.py",
          "member.compress_type != zipfile.ZIP_STORED", "member.compress_type == zipfile.ZIP_LZMA",
          ("tests/nas/export/test_verify_folder.py",)),
    Fault("manifest-hash-not-compared", "nas/export/manifest.py",
          "None if sha256 == entry.sha256 else", "None if len(sha256) == len(entry.sha256) else",
          ("tests/nas/export/test_manifest.py",)),
    # --- analysis ---
    Fault("recommendation-judged-on-data-it-learned-from", "scripts/recommend.py",
          "if each.setting.data != trained.setting.data", "if each.setting.name != trained.setting.name",
          ("tests/scripts/test_recommend.py",)),
    Fault("recommended-without-a-scale-of-the-budget", "analysis/recommend/comparable.py",
          "measure_patterns(patterns) - own.mean(axis=0)", "measure_patterns(patterns) - own.mean()",
          ("tests/analysis/recommend/test_options.py",)),
    Fault("table-takes-na-for-missing", "analysis/data/csv_files.py",
          'keep_default_na=False, na_values=[""]', 'na_values=[""]',
          ("tests/analysis/data/test_results.py",)),
    Fault("seed-means-over-unequal-patterns", "analysis/data/averages.py",
          'complete[outcome].where(complete["all_seeds"])', "complete[outcome]",
          ("tests/analysis/data/test_results.py", "tests/analysis/study/test_stratum.py")),
    Fault("lucky-seed-comes-first", "analysis/data/averages.py",
          'order = ["all_seeds", *ranked, "key"]',
          'order = [ranked[0], "all_seeds", *ranked[1:], "key"]',
          ("tests/analysis/data/test_results.py",)),
    Fault("wald-with-hc2", "analysis/stats/inference.py",
          "(1 - leverage).clip(1e-6)", "(1 - leverage).clip(1e-6) ** 0.5",
          ("tests/analysis/stats/test_permutations.py", "tests/analysis/stats/test_correlations.py")),
    Fault("holm-forgets-undefined-tests", "analysis/verdict/rules.py",
          "[1.0 if p_value is None else p_value for p_value in p_values]", "p_values",
          ("tests/analysis/verdict/test_rules.py",)),
    Fault("permutations-keep-group-means", "analysis/stats/inference.py",
          "residual = centre_inside(residual, groups)", "residual = residual - residual.mean()",
          ("tests/analysis/stats/test_permutations.py",)),
    Fault("p-value-of-zero", "analysis/stats/resampling.py",
          "(1 + int((distances >= far - slack).sum())) / (1 + len(permuted))",
          "int((distances >= far - slack).sum()) / len(permuted)",
          ("tests/analysis/stats/test_permutations.py", "tests/analysis/stats/test_correlations.py")),
    Fault("bootstrap-too-narrow", "analysis/stats/resampling.py",
          "counts * (size / (size - 1))", "counts",
          ("tests/analysis/stats/test_correlations.py",)),
    Fault("interval-end-not-cut", "analysis/stats/intervals.py",
          "clip(middle + half, bounds)", "middle + half",
          ("tests/analysis/stats/test_intervals.py",)),
    Fault("reliability-denominator", "analysis/stats/reliability.py",
          "(between + (k - 1) * within)", "(between + k * within)",
          ("tests/analysis/study/test_stratum.py",)),
    Fault("ceiling-counts-the-held-columns", "analysis/verdict/noise.py",
          "freedom = len(y) - rank_held - noise_freedom", "freedom = len(sizes) - 1",
          ("tests/analysis/verdict/test_noise.py", "tests/analysis/verdict/test_committed_tables.py")),
    Fault("ceiling-interval-upside-down", "analysis/verdict/noise.py",
          "for tail in reversed(TAILS)", "for tail in TAILS",
          ("tests/analysis/verdict/test_noise.py",)),
    Fault("random-seeds-count-as-fixed", "analysis/verdict/seeds.py",
          "return self.p_value <= SEEDS_RANDOM", "return False",
          ("tests/analysis/verdict/test_flaws.py",)),
    Fault("controls-are-linear", "analysis/verdict/noise.py",
          "*(rank**2 for rank in ranks)]", "*(0 * rank for rank in ranks)]",
          ("tests/analysis/verdict/test_flaws.py", "tests/analysis/verdict/test_noise.py")),
    Fault("one-control-is-enough", "analysis/verdict/rules.py",
          "if all(effect.is_detected for effect in effects)", "if any(effect.is_detected for effect in effects)",
          ("tests/analysis/verdict/test_rules.py",)),
    Fault("sides-of-a-turn-without-their-own-level", "analysis/verdict/shape.py",
          "np.concatenate([held, is_above[:, None].astype(np.float64)], axis=1)", "held",
          ("tests/analysis/verdict/test_shape.py",)),
    Fault("strata-draw-shared-patterns-apart", "analysis/verdict/sample.py",
          '(run_seed, "resamples", *space)', '(run_seed, "resamples", *space, name)',
          ("tests/analysis/verdict/test_pooled.py",)),
    Fault("pooled-variance-without-covariance", "analysis/verdict/pooled.py",
          "float(weights @ covariance @ weights)", "float(weights**2 @ np.diagonal(covariance))",
          ("tests/analysis/verdict/test_pooled.py",)),
    Fault("groups-pooled-without-fisher", "analysis/stats/grouped.py",
          "np.where(counted > 0, _transform(rho, ends), 0.0)", "np.where(counted > 0, np.nan_to_num(rho), 0.0)",
          ("tests/analysis/stats/test_pooled_groups.py",)),
    Fault("verdict-negligible-by-one-end", "analysis/verdict/controls.py",
          "self.low > -MARGIN and self.high < MARGIN", "self.low > -MARGIN or self.high < MARGIN",
          ("tests/analysis/verdict/test_rules.py",)),
    Fault("verdict-of-accuracy-upside-down", "analysis/verdict/rules.py",
          "(signs == {1}) == lower_is_better", "(signs == {1})",
          ("tests/analysis/verdict/test_rules.py",)),
    Fault("guessing-counts-images-of-every-network", "analysis/stats/guessing.py",
          "guessing.n_images * len(by_seed)", "guessing.n_images * len(complete)",
          ("tests/analysis/stats/test_guessing.py",)),
    Fault("tuned-by-the-luckiest-seed", "analysis/tuning/optimum.py",
          "means = heights.mean(axis=0)", "means = heights.min(axis=0)",
          ("tests/analysis/tuning/test_optimum.py",)),
    Fault("undertrained-by-rates-at-the-edge", "analysis/tuning/undertrained.py",
          "< best.median and not is_lowest", "< best.median",
          ("tests/analysis/tuning/test_undertrained.py",)),
    Fault("tradeoff-kept-too-soon", "analysis/tradeoff/points.py",
          '"kept" if low > -KEPT_MARGIN', '"kept" if high > -KEPT_MARGIN',
          ("tests/analysis/tradeoff/test_points.py",)),
    Fault("replay-shows-what-is-pending", "nas/search/replay.py",
          "max(0, len(history) - n_pending)", "len(history)",
          ("tests/nas/search/test_replay.py",)),
    Fault("regret-gain-over-all-rows", "analysis/replays/searches.py",
          "table[searches.is_uniform].mean(axis=0)", "table.mean(axis=0)",
          ("tests/analysis/replays/test_searches.py",)),
    Fault("regret-judged-by-all-seeds", "analysis/replays/regret.py",
          "(n_visible, k - n_visible)", "(n_visible, k)",
          ("tests/analysis/replays/test_regret.py",)),
    Fault("correlate-resamples-across-groups", "analysis/correlate/table.py",
          "correlate_spearman(x, y, groups, groups, generator)",
          "correlate_spearman(x, y, np.zeros_like(groups), groups, generator)",
          ("tests/analysis/correlate/test_table.py",)),
    Fault("page-text-not-escaped", "analysis/page/document.py",
          "<p{mark}>{html.escape(text)}{after}</p>", "<p{mark}>{text}{after}</p>",
          ("tests/analysis/page/test_document.py",)),
    Fault("page-data-end-the-script", "analysis/web/frame.py",
          r'.replace("<", "\\u003c")', "",
          ("tests/analysis/page/test_document.py",)),
    Fault("axis-wasted-on-a-far-pattern", "analysis/charts/scales.py",
          "if kept[-1] - kept[0] >= LEAST_GAIN * width:", "if False:",
          ("tests/analysis/charts/test_scales.py",)),
    Fault("page-mixes-up-patterns", "analysis/study/linked.py",
          "table = table.reindex(index=list(values), columns=seeds)", "table = table.reindex(columns=seeds)",
          ("tests/analysis/study/test_linked.py",)),
    Fault("decimals-beyond-the-noise", "analysis/page/wording.py",
          "-math.log10(half / 2)", "-math.log10(half / 40)",
          ("tests/analysis/page/test_wording.py",)),
    Fault("folded-blocks-lose-their-anchors", "analysis/page/document.py",
          "for block in walk_blocks(blocks):\n        if isinstance(block, Heading):",
          "for block in blocks:\n        if isinstance(block, Heading):",
          ("tests/analysis/page/test_document.py",)),
    # --- commands ---
    Fault("sum-forgets-a-source", "nas/modules/merges.py",
          "for source in sources[1:]:", "for source in sources[2:]:",
          ("tests/nas/modules/test_merges.py",)),
    Fault("drop-path-leaves-no-input", "nas/modules/drops.py",
          "if not keeps.any():", "if False:",
          ("tests/nas/model/test_drops.py",)),
    Fault("dropped-layers-are-not-scaled", "nas/model/network.py",
          "or self.survival == 1 else", "or self.survival <= 1 else",
          ("tests/nas/model/test_drops.py",)),
    Fault("changed-task-goes-on", "nas/settings/own_task.py",
          'if recorded.get("sha256") != now["sha256"]:', 'if recorded.get("sha256") == now["settings"]:',
          ("tests/nas/tasks/test_own_runs.py",)),
    Fault("task-has-one-order", "nas/tasks/loop.py",
          'derive_seed(seed, "order", epoch)', 'derive_seed(seed, "order", 0)',
          ("tests/nas/tasks/test_loop.py",)),
    Fault("decoder-sees-what-follows", "nas/tasks/text/decoder.py",
          "is_causal=True", "is_causal=False",
          ("tests/nas/tasks/text/test_decoder.py",)),
    Fault("maximised-metric-is-minimised", "search_spaces/surrogate/target.py",
          "return -value if maximize else value", "return value",
          ("tests/search_spaces/surrogate/test_target.py",)),
    Fault("kernel-length-is-the-worst", "search_spaces/surrogate/evidence.py",
          "int(np.argmin(losses))", "int(np.argmax(losses))",
          ("tests/search_spaces/surrogate/test_evidence.py",)),
    Fault("mutant-changes-its-parent", "nas/search/space.py",
          "connections = _lay_out(pattern, self.budget).copy()", "connections = _lay_out(pattern, self.budget)",
          ("tests/nas/search/test_space.py",)),
    Fault("importances-of-noise-are-shown", "analysis/report/patterns.py",
          "has_parameters=_tells_apart(resolution) and ", "has_parameters=",
          ("tests/analysis/report/test_optuna.py",)),
    Fault("changed-attribute-of-a-trial-is-read", "nas/records/trial.py",
          "if name in trial.user_attrs and trial.user_attrs[name] != value:", "if trial.user_attrs.get(name) is None:",
          ("tests/nas/records/test_trial.py", "tests/nas/records/test_database.py")),
    Fault("a-pattern-is-taken-that-is-not-told-apart", "analysis/picks/words.py",
          "    if gain.is_shown and gain.change < 0:", "    if gain.change < 0:",
          ("tests/analysis/report/test_conclusion.py",)),
    Fault("trainings-side-by-side-are-counted-twice", "analysis/report/cost.py",
          "start = began if reached is None else max(began, reached)", "start = began",
          ("tests/analysis/report/test_conclusion.py",)),
    Fault("one-training-is-called-measured", "analysis/picks/words.py",
          "if all(each.n_trainings < 2 for each", "if any(each.n_trainings < 0 for each",
          ("tests/analysis/picks/test_section.py",)),
    Fault("export-takes-flags-it-ignores", "commands/files.py",
          "if run is not None and outside:", "if final and outside:",
          ("tests/command_line/test_errors.py",)),
    Fault("false-claims-exit-with-1", "commands/files.py",
          "typer.Exit(2)", "typer.Exit(1)",
          ("tests/nas/export/test_verify_folder.py", "tests/nas/records/test_hostile.py")),
    Fault("sample-ignores-its-seed", "commands/patterns.py",
          "uniform=0, seed=seed)", "uniform=0)",
          ("tests/command_line/test_patterns.py",)),
    Fault("correlate-swaps-group-and-pattern", "commands/tables.py",
          "outcome, group, pattern, seed)", "outcome, pattern, group, seed)",
          ("tests/command_line/test_patterns.py",)),
    Fault("earlier-outcomes-have-no-level", "search_spaces/surrogate/evidence.py",
          "costs[is_of_it] = clipped - clipped.mean() + level", "costs[is_of_it] = clipped",
          ("tests/search_spaces/surrogate/test_earlier.py",)),
    Fault("earlier-trainings-make-certain", "search_spaces/surrogate/posterior.py",
          " + variances.own * earlier.same_pattern", "",
          ("tests/search_spaces/surrogate/test_earlier.py",)),
    Fault("a-table-s-pattern-cannot-become-the-choice", "search_spaces/surrogate/choice.py",
          "least[new] = np.minimum(least[new], itself)", "least[new] = least[new]",
          ("tests/search_spaces/surrogate/test_earlier.py",)),
    Fault("a-table-s-patterns-are-the-model-s", "nas/search/stratum.py",
          "Arrival(proposal.pattern, seed, TABLE)", "Arrival(proposal.pattern, seed, MODEL)",
          ("tests/nas/search/test_seeded.py",)),
    Fault("changed-copy-of-a-table-is-read", "nas/settings/table.py",
          "if sha256 != config.table_sha256:", "if sha256 is None:",
          ("tests/nas/search/test_seeded.py", "tests/nas/settings/test_table.py")),
    Fault("card-has-results-of-other-weights", "nas/export/card.py",
          "if test is None or data is None or not _is_trained(manifest):", "if test is None or data is None:",
          ("tests/nas/export/test_card.py",)),
    Fault("older-weights-are-read-as-newer-ones", "nas/export/verify.py",
          "path = folder / WEIGHTS_FILES[manifest.version]", "path = folder / WEIGHTS_FILES[VERSION]",
          ("tests/nas/export/test_verify_folder.py",)),
    Fault("trackers-are-shown-twice", "nas/loggers/relay.py",
          "if self._shown.has(trial.number, trial.state):", "if self._shown.has(trial.number, trial.budget):",
          ("tests/nas/loggers/test_relay.py", "tests/nas/run/test_following.py")),
    Fault("a-tracker-that-woke-up-has-been-shown", "nas/loggers/relay.py",
          "if not self._dropped:\n            self._shown.note", "if self._shown:\n            self._shown.note",
          ("tests/nas/loggers/test_relay.py",)),
    Fault("network-flags-lose-to-the-preset", "nas/presets/registry.py",
          "for name in NetworkConfig.model_fields} | dict(values)", "for name in NetworkConfig.model_fields}",
          ("tests/command_line/test_patterns.py",)),
    Fault("a-changed-task-overwrites-the-kept-one", "skipsearch/tasks.py",
          "if existing != text and (has_begun or not existing.startswith(HEADER)):",
          "if existing != text and not existing.startswith(HEADER):",
          ("tests/face/test_tasks.py",)),
    Fault("a-module-before-ours-is-not-noticed", "skipsearch/shadows.py",
          "place.parent.resolve() == HOME", "place.name == name",
          ("tests/face/test_shadows.py",)),
    Fault("hints-name-another-program", "nas/records/shown.py",
          'return "python run_search.py"', 'return "skipsearch"',
          ("tests/command_line/test_runs.py", "tests/nas/records/test_shown.py")),
    Fault("older-runs-shrink", "nas/settings/resume.py",
          'mended.setdefault("train_examples", None)', 'mended.setdefault("train_examples", 300)',
          ("tests/nas/settings/test_examples.py",)),
    Fault("table-drops-columns-silently", "commands/terminal.py",
          "if len(widths) < len(headings):", "if len(widths) > len(headings):",
          ("tests/command_line/test_terminal.py",)),
)
# fmt: on


def main() -> None:
    """Try the faults, print a table, and exit with 1 if one is stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only list the faults that are stale, without any test")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[one.name for one in FAULTS], help="these alone")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds a fault [%(default)g]")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write the table here too")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that finally restores the file
    chosen = [fault for fault in FAULTS if arguments.only is None or fault.name in arguments.only]
    if arguments.check:
        stale = [fault for fault in chosen if fault.is_stale]
        _print("\n".join([*(f"{fault.name:<45} stale" for fault in stale), f"{len(stale)} of {len(chosen)} stale"]))
        sys.exit(1 if stale else 0)
    results = []
    for fault in chosen:
        results.append(try_fault(fault, arguments.timeout))
        _print(f"{results[-1].name:<45} {results[-1].status:<7} {results[-1].seconds:6.1f}")
        if arguments.out is not None:
            write_results(arguments.out, results)
    n = Counter(one.status for one in results)
    _print(
        f"{n['caught'] + n['timeout']} of {len(results)} caught ({n['timeout']} by timeout), {n['missed']} missed, "
        f"{n['stale']} stale"
    )
    sys.exit(1 if n["stale"] else 0)


def try_fault(fault: Fault, timeout: float) -> Result:
    """Make the mistake, run its tests, and put the file back as it was."""
    if fault.is_stale:
        return Result(fault.name, "stale", 0.0)
    _check_unmodified(fault.file)
    path = ROOT / fault.file
    content = path.read_bytes()
    started = time.monotonic()
    try:
        path.write_bytes(content.replace(fault.old.encode(), fault.new.encode()))
        status = run_tests(fault.tests, timeout)
    finally:
        path.write_bytes(content)
    return Result(fault.name, status, time.monotonic() - started)


def run_tests(tests: Sequence[str], timeout: float) -> str:
    """Run files of tests, and return the status of the fault that is in the program; see Result."""
    with tempfile.TemporaryDirectory() as folder:
        # Nothing of the fault is kept: no compiled files, and no examples that made a test fail.
        settings = {"PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": folder, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, *PYTEST, *tests],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # what the tests have started too
                process.wait()
    if code not in (0, 1, 2):  # 1: a test failed, 2: a file of tests could not be loaded
        raise SystemExit(f"pytest ended with exit code {code} on {' '.join(tests)}")
    return "missed" if code == 0 else "caught"


def _check_unmodified(file: str) -> None:
    command = ["git", "status", "--porcelain", "--", file]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if told:
        raise SystemExit(f"{file} has changes that are not committed, and they could be lost: commit them first")


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Write the table as CSV."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["name", "status", "seconds"])
        writer.writerows([one.name, one.status, f"{one.seconds:.1f}"] for one in results)


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
