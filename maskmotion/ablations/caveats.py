"""What stands below every table: what it cannot tell, and where its numbers come from."""

from __future__ import annotations

import json
import math
from statistics import median

from scipy.stats import t

from maskmotion.ablations.results import Results, column
from maskmotion.config import Recipe
from maskmotion.evaluation.provenance import recipe_hash
from maskmotion.evaluation.sanity import FROZEN, MEAN, NOISE

CHANCE = "chance"
_RAISED_BY_NOISE = {"l1_diversity"}  # for the others noise on ground truth still has the truth in it
_LABELS_NAMED = ("lift", "auroc", "auroc_within")


def caveats(results: Results) -> list[str]:
    """One sentence or two each: data, scale, power, labels, what is shared, and the table's own."""
    told = [_data(results), _scale(results), _power(results), _shared(results), _labels(results), _absent(results)]
    told += [_beaten(results), _runs(results), _latents(results), _steps(results)]
    return [line for line in (*told, *results.table.caveats) if line]


def _data(results: Results) -> str:
    name = results.about["data"]
    if not str(name).startswith("planted"):
        return f"How it would be on other data than {name}, or on other clips of it."
    return (
        f"Anything about recorded data: {name} is synthetic speech and motion whose meanings are planted, which is why masks "
        "can be judged at all. Nor what another corpus seed would give."
    )


def _scale(results: Results) -> str:
    sizes, steps = results.weights.values(), {_steps_of(recipe) for recipe in results.recipes.values()}
    millions = f"{min(sizes) / 1e6:.1f}" + (f" to {max(sizes) / 1e6:.1f}" if max(sizes) > 1.05 * min(sizes) else "")
    spelled = " or ".join(f"{count:,}" for count in sorted(steps))
    return (
        f"How the method does at its own size: these generators have {millions} million weights and learn for {spelled} "
        "steps."
    )


def _power(results: Results) -> str:
    seeds = results.seeds
    if seeds < 2:
        return "Anything about chance: one seed has no interval, so no difference has a direction."
    shown = [name for name in results.measures if column(name).better] or results.measures
    halves = {}
    for name in shown:
        found = [results.difference(label, name) for label in results.cells]
        known = [one.half for one in found if one is not None and not math.isnan(one.half)]
        if known:
            halves[name] = median(known)
    finest = ", ".join(f"{column(name).title} {half:.2g}" for name, half in halves.items())
    compared = sum(results.table.other(label) is not None for label in results.cells) * len(results.measures)
    return (
        f"Small differences: with {seeds} seeds an interval is {t.ppf(0.975, seeds - 1):.1f} standard errors wide on each "
        f"side. Half of the differences here are known no better than to ± {finest}. Of {compared} intervals at 95 %, about "
        f"{max(1, round(0.05 * compared))} would exclude zero by chance alone."
    )


def _shared(results: Results) -> str:
    own = results.about.get("own_tokenizers")
    tokenizers = "every seed trains its own tokenizers" if own else "the tokenizers are those of seed 0 for all"
    return (
        f"What other test clips would give: seeds vary initialisation and batches ({tokenizers}), and the corpus and the test "
        "clips are the same for all. In paired differences the clips' own effect cancels, in the values it does not."
    )


def _labels(results: Results) -> str:
    taught = [label for label, recipe in results.recipes.items() if uses_labels(recipe)]
    knows = [label for label, recipe in results.recipes.items() if recipe.masker and recipe.masker.name == "oracle"]
    if not taught + knows or not set(_LABELS_NAMED) & set(results.everything):
        return ""
    said = []
    if taught:
        said.append(f"{', '.join(taught)}: L_sem trains on the very labels that lift and AUROC are scored by")
    if knows:
        said.append(f"{', '.join(knows)}: the masker reads those labels, which makes it a bound and no method")
    return "What speech finds by itself, in the rows that are given labels. " + "; ".join(said) + "."


def _absent(results: Results) -> str:
    """Columns of the paper that could not be measured, with the reason."""
    wanted = {
        name for source in (results.table.paper, results.table.expected) for row in source.values() for name in row
    }
    reasons: dict[str, list[str]] = {}
    for name in sorted(wanted - set(results.everything)):
        reasons.setdefault(results.about["absent"].get(name, "not among the protocol's measures"), []).append(name)
    return "; ".join(f"{', '.join(column(name).title for name in names)}: {why}" for why, names in reasons.items())


def _beaten(results: Results) -> str:
    """Measures by which no row is better than motion that hears nothing, or than chance."""
    worthless = []
    for name in results.measures:
        better = column(name).better
        means = [results.interval(label, name).mean for label in results.cells]
        known = [mean for mean in means if not math.isnan(mean)]
        if not (better and known):
            continue
        best = max(known) if better == "higher" else min(known)
        deaf = {row: results.sanity.get(row, {}).get(name, math.nan) for row in (CHANCE, MEAN, FROZEN)}
        if name in _RAISED_BY_NOISE:
            deaf[NOISE] = results.sanity.get(NOISE, {}).get(name, math.nan)
        if f"{name}_chance" in results.everything:  # what shifted onsets give, which is each row's own
            label = next(label for label in results.cells if results.interval(label, name).mean == best)
            deaf["shifted onsets"] = results.interval(label, f"{name}_chance").mean
        for row, value in deaf.items():
            if (value >= best) if better == "higher" else (value <= best):
                worthless.append(f"{column(name).title} ({row} {value:.3g}, the best row {best:.3g})")
                break
    if not worthless:
        return ""
    return f"How good any row is by {', '.join(worthless)}: what hears nothing does as well or better."


def _runs(results: Results) -> str:
    """What span masks are a control for: strategies whose hidden runs are about as long."""
    spans = [label for label, recipe in results.recipes.items() if recipe.masker and recipe.masker.name == "span"]
    if not spans or "run_length" not in results.everything:
        return ""
    lengths = {label: results.interval(label, "run_length").mean for label in results.cells}
    told = ", ".join(f"{label} {length:.1f}" for label, length in lengths.items() if not math.isnan(length))
    return f"What {', '.join(spans)} controls for, in rows whose hidden runs are longer or shorter. Frames in a row: {told}."


def _latents(results: Results) -> str:
    """Rows of several tokenizers have latents of several kinds."""
    if "latent_error" not in results.measures or len(set(results.reconstruction.values())) < 2:
        return ""
    return "Latent errors between rows of different tokenizers: each is in units of its own row's latents."


def _steps(results: Results) -> str:
    steps = {label: _steps_of(recipe) for label, recipe in results.recipes.items()}
    if len(set(steps.values())) == 1:
        return "What equal time would give: rows are compared at equal steps, and their seconds differ; see the last column."
    return "What equal steps would give: " + ", ".join(f"{label} has {count}" for label, count in steps.items()) + "."


def uses_labels(recipe: Recipe) -> bool:
    """Whether the generator's loss reads semantic labels."""
    return bool(recipe.generator.arguments.get("semantic"))


def _steps_of(recipe: Recipe) -> int:
    return sum(one.steps for stage, one in recipe.training.items() if stage not in ("tokenizer", "root"))


def origins(results: Results) -> str:
    """Everything that a number of the table depends on."""
    about = results.about
    first = next(iter(results.recipes.values()))
    lines = [
        "## Where it comes from\n",
        f"- data: {about['data']}, fingerprint {about['fingerprint']}; measured on {about['split']} clips "
        f"{about['measured_on'][:16]}",
        *(
            f"- {name.upper()}: extractor {one['fingerprint'][:16]}, {one['origin']}; compare only with the same"
            for name, one in about["extractors"].items()
        ),
        f"- versions: {', '.join(f'{name} {one}' for name, one in about['versions'].items())}",
        *([f"- some cells were measured with other versions: {about['mixed']}"] if about.get("mixed") else []),
        f"- base: {first.name}; recipe of every cell in its folder below cells/\n",
        "| row | recipe | weights | hears | tokenizers | changes to the base |\n|---|---|---|---|---|---|",
    ]
    for label, recipe in results.recipes.items():
        changes = json.dumps(results.table.rows[label], default=_plain).replace("|", "/")
        tokens = results.reconstruction[label]
        key, hears = recipe_hash(recipe), ", ".join(about["recipes"][recipe_hash(recipe)]["hears"])
        lines.append(f"| {label} | {key} | {results.weights[label]:,} | {hears} | {tokens} | `{changes}` |")
    return "\n".join(lines)


def _plain(value: object) -> object:
    from pydantic import TypeAdapter

    return TypeAdapter(type(value)).dump_python(value, mode="json")
