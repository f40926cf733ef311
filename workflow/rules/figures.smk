# Figures follow from runs.csv alone: they are drawn again in seconds, without other results.


localrules:
    draw_figures,


rule draw_figures:
    input:
        "results/{experiment}/runs.csv",
    output:
        report(
            directory("results/{experiment}/figures"),
            patterns=["{name}.svg"],
            caption="../report/figures.rst",
            category="{experiment}",
            labels={"content": "{name}", "form": "figure"},
        ),
    log:
        "results/logs/{experiment}/figures.log",
    conda:
        "../../environment.yml"
    params:
        flags=figure_flags,
        sources=report_sources,
    shell:
        "python -m prunebench figures --runs-csv {input}"
        " {params.flags} --out {output} > {log} 2>&1"
