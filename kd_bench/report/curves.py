"""Training loss against steps: a thin line a seed, a thick one their mean."""

from collections import defaultdict
from statistics import fmean

from kd_bench.report.draw import Plot, looks, plot
from kd_bench.report.study import Study, method_of, size_then_method

TITLE = "## Training curves"
READING = """\
Each method's own loss, so that curves of different methods differ in more than how well they learn: compare a method's
seeds and students, and look for what does not settle. Thin: a seed; thick: the mean over seeds, at the steps that all
have."""
ABSENT = "No training curves in these records: `kd-bench study` and `kd-bench distill` keep them."


def section(study: Study) -> list[str | Plot] | str:
    curves = defaultdict(dict)  # (run, model name) -> {seed: curve}
    models = {}
    for record, _ in study.results:
        if record.curve:
            key = record.provenance.run, record.model.name
            curves[key][record.seed] = {step: loss for step, loss in record.curve}
            models[key] = record.model
    if not curves:
        return ABSENT
    students = defaultdict(lambda: defaultdict(list))  # student -> run -> [(method, its seeds' curves)]
    for run, name in sorted(curves, key=lambda key: (*size_then_method(models[key]), key)):
        model = models[run, name]
        students[model.student or name][run].append((method_of(model), list(curves[run, name].values())))
    return [TITLE, READING, *(drawn(study, *item, number) for number, item in enumerate(students.items(), 1))]


def drawn(study: Study, student: str, runs: dict[str, list], number: int) -> Plot:
    names, look = sorted(runs), looks(study.methods)

    def fill(axes, panel: int) -> None:
        for method, seeds in runs[names[panel]]:
            color, _ = look.get(method, look["teacher"])
            for curve in seeds if len(seeds) > 1 else []:
                axes.plot(*zip(*sorted(curve.items())), color=color, linewidth=0.6, alpha=0.5)
            common = sorted(set.intersection(*(set(curve) for curve in seeds)))
            mean = [round(fmean(curve[step] for curve in seeds), 6) for step in common]
            axes.plot(common, mean, color=color, linewidth=1.6, label=method)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("training loss")

    text = f"Training loss of {student} against steps; thin lines: seeds, thick ones: their mean."
    return plot(f"curves_{number}", text, [f"{student} on {study.where(run)}" for run in names], fill)
