# Figures follow from runs.csv alone: they are drawn again in seconds, without other results.


localrules:
    draw_figures,


rule draw_figures:
    input:
        "results/{experiment}/runs.csv",
    output:
        report(
            "results/{experiment}/figures/accuracy_speedup.svg",
            caption="../report/accuracy_speedup.rst",
            category="{experiment}",
            labels={"content": "accuracy vs. speedup", "form": "figure"},
        ),
        report(
            "results/{experiment}/figures/accuracy_latency.svg",
            caption="../report/accuracy_latency.rst",
            category="{experiment}",
            labels={"content": "accuracy vs. latency", "form": "figure"},
        ),
        report(
            "results/{experiment}/figures/kept_width.svg",
            caption="../report/kept_width.rst",
            category="{experiment}",
            labels={"content": "kept width per layer", "form": "figure"},
        ),
        report(
            "results/{experiment}/figures/accuracy_epochs.svg",
            caption="../report/accuracy_epochs.rst",
            category="{experiment}",
            labels={"content": "accuracy over epochs", "form": "figure"},
        ),
        report(
            "results/{experiment}/figures/method_diagnostics.svg",
            caption="../report/method_diagnostics.rst",
            category="{experiment}",
            labels={"content": "method diagnostics", "form": "figure"},
        ),
        report(
            "results/{experiment}/figures/accuracy_without_training.svg",
            caption="../report/accuracy_without_training.rst",
            category="{experiment}",
            labels={"content": "accuracy without training", "form": "figure"},
        ),
        multiext(
            "results/{experiment}/figures/",
            "accuracy_speedup.png",
            "accuracy_latency.png",
            "kept_width.png",
            "accuracy_epochs.png",
            "method_diagnostics.png",
            "accuracy_without_training.png",
        ),
    log:
        "results/logs/{experiment}/figures.log",
    conda:
        "../../environment.yml"
    params:
        sources=report_sources,
    shell:
        "python -m prunebench figures --runs-csv {input}"
        " --out results/{wildcards.experiment}/figures > {log} 2>&1"
