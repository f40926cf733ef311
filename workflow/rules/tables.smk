# Tables follow from runs.csv alone: they are written again in seconds, without other results.


localrules:
    write_tables,


rule write_tables:
    input:
        "results/{experiment}/runs.csv",
    output:
        csv="results/{experiment}/tables/summary.csv",
        markdown="results/{experiment}/tables/summary.md",
        short="results/{experiment}/tables/summary_short.md",
        latex="results/{experiment}/tables/summary.tex",
        fairness="results/{experiment}/tables/fairness.md",
        pairs="results/{experiment}/tables/fairness.csv",
        checklist="results/{experiment}/tables/checklist.md",
        checklist_latex="results/{experiment}/tables/checklist.tex",
        html=report(
            "results/{experiment}/tables/summary.html",
            caption="../report/summary.rst",
            category="{experiment}",
            labels={"content": "summary", "form": "table"},
        ),
    log:
        "results/logs/{experiment}/tables.log",
    conda:
        "../../environment.yml"
    params:
        flags=table_flags,
        sources=report_sources,
    shell:
        "python -m prunebench tables --runs-csv {input}"
        " {params.flags} --out results/{wildcards.experiment}/tables > {log} 2>&1"
