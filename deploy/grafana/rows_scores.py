"""Rows of the dashboard about scores, decisions, processes and models."""

from grafana_foundation_sdk.models import units

from deploy.grafana.panels import Panel, heat, lines, rows
from deploy.grafana.queries import MODEL, RATE, mean, quantiles, share


def scores() -> list[Panel]:
    """Scores: their distribution beside that of the training photos, and changes in the pictures sent."""
    points = (0.05, 0.25, 0.5, 0.75, 0.95)
    quantile = "|".join(f"{point:g}" for point in points)
    strange = share(
        f'smartiqa_image_warnings_total{{warning="out_of_domain",{MODEL},@}}',
        f"smartiqa_score_count{{{MODEL},@}}",
        by=" by (model)",
    )
    warnings = f"sum by (warning) (rate(smartiqa_image_warnings_total{{{MODEL},@}}{RATE}))"
    return [
        heat("Scores", "Answers by their score.", units.Short, f"smartiqa_score_bucket{{{MODEL},@}}"),
        lines(
            "Scores beside those of the training photos",
            "Quantiles of the answers, and dashed those of the photos that the model learned from. The two "
            "need not agree; a change of the distance tells of other pictures, or another model.",
            units.Short,
            *quantiles(f"smartiqa_score_bucket{{{MODEL},@}}", *points, by="model, ", legend="{{model}} "),
            (
                f'max by (model, share) (smartiqa_training_score{{share=~"{quantile}",{MODEL},@}})',
                "{{model}} training {{share}}",
            ),
            most=100,
            dashed="/training/",
            width=12,
        ),
        lines(
            "Mean score, beside a week ago",
            "Over an hour each.",
            units.Short,
            (mean("score", f"{MODEL},@", "[1h]", " by (model)"), "{{model}}"),
            (mean("score", f"{MODEL},@", "[1h] offset 1w", " by (model)"), "{{model}} a week ago"),
            most=100,
            dashed="/ago/",
        ),
        lines(
            "Out of domain",
            "Answers with the warning out_of_domain: pictures unlike the training photos, whose scores mean less.",
            units.PercentUnit,
            (strange, "{{model}}"),
        ),
        lines(
            "Warnings",
            "What answers warn of, in a second.",
            units.CountsPerSecond,
            (f"{warnings} > 0", "{{warning}}"),
            stacked=True,
        ),
        lines(
            "Crops of crops=auto",
            "Crops behind an answer to crops=auto, on average.",
            units.Short,
            (mean("auto_crops"), "mean"),
        ),
    ]


def decisions() -> list[Panel]:
    """Decisions of policies: outcomes, reasons, and how the share of rejections moves."""
    rejected, all_ = 'smartiqa_decisions_total{outcome="reject",@}', "smartiqa_decisions_total{@}"
    by = " by (policy)"
    return [
        lines(
            "Decisions",
            "What policies decide, in a second.",
            units.CountsPerSecond,
            (f"sum by (policy, outcome) (rate({all_}{RATE})) > 0", "{{policy}} {{outcome}}"),
            stacked=True,
        ),
        lines(
            "Rejected, beside a week ago",
            "Share of the pictures that a policy rejects, over an hour each.",
            units.PercentUnit,
            (share(rejected, all_, "[1h]", by), "{{policy}}"),
            (share(rejected, all_, "[1h] offset 1w", by), "{{policy}} a week ago"),
            most=1,
            dashed="/ago/",
        ),
        lines(
            "Reasons",
            "Why pictures are rejected or left to a person, in a second; a picture may have several reasons.",
            units.CountsPerSecond,
            (
                f"sum by (policy, outcome, reason) (rate(smartiqa_decision_reasons_total{{@}}{RATE})) > 0",
                "{{policy}} {{outcome}} {{reason}}",
            ),
            stacked=True,
        ),
    ]


def process() -> list[Panel]:
    """Processes: resources, and the loaded models."""
    return [
        lines(
            "Resident memory",
            "Of the service's process, without decoder processes.",
            units.BytesIEC,
            ("smartiqa_process_resident_memory_bytes{@}", "{{instance}}"),
        ),
        lines(
            "Processor",
            "Cores in use, without decoder processes.",
            units.Short,
            (f"rate(smartiqa_process_cpu_seconds_total{{@}}{RATE})", "{{instance}}"),
        ),
        lines(
            "Open files",
            "Connections are files too. Dashed: the most that are allowed.",
            units.Short,
            ("smartiqa_process_open_fds{@}", "{{instance}}"),
            ("smartiqa_process_max_fds{@}", "{{instance}} most"),
            dashed="/most/",
        ),
        lines(
            "Time since the start",
            "A fall to zero is a restart.",
            units.Seconds,
            ("time() - smartiqa_process_start_time_seconds{@}", "{{instance}}"),
        ),
        lines(
            "Ready",
            "1 while the instance takes work.",
            units.Short,
            ("smartiqa_ready{@}", "{{instance}}"),
            most=1,
        ),
        lines(
            "Reloads",
            "Exchanges of the models within an hour, done and failed.",
            units.Short,
            ("sum by (result) (increase(smartiqa_reloads_total{@}[1h]))", "{{result}}"),
        ),
        rows(
            "Models",
            "What each instance holds. One name with two digests: instances give different scores.",
            ('smartiqa_model_info{name=~"$model",@}', ""),
            hidden=("job",),
            width=18,
        ),
        rows("Releases", "Which release each instance is.", ("smartiqa_build_info{@}", ""), hidden=("job",), width=6),
    ]
