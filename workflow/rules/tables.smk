# Tables are a function of runs.csv: drawn again in seconds, also when nothing else is left.


localrules:
    write_tables,


rule write_tables:
    input:
        "results/{experiment}/runs.csv",
    output:
        csv="results/{experiment}/tables/summary.csv",
        markdown="results/{experiment}/tables/summary.md",
        latex="results/{experiment}/tables/summary.tex",
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
        title=table_title,
        sources=report_sources,
    shell:
        "python -m prunebench tables --runs-csv {input} --title {params.title:q}"
        " --out results/{wildcards.experiment}/tables > {log} 2>&1"
