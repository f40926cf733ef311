# The report follows from runs.csv alone: it is written again in seconds, without other results.


localrules:
    write_report,


rule write_report:
    input:
        "results/{experiment}/runs.csv",
    output:
        html="results/{experiment}/report/index.html",
        runs=directory("results/{experiment}/report/runs"),
    log:
        "results/logs/{experiment}/report.log",
    conda:
        "../../environment.yml"
    params:
        flags=table_flags,
        sources=report_sources,
    shell:
        "python -m prunebench report --runs-csv {input}"
        " {params.flags} --out results/{wildcards.experiment}/report > {log} 2>&1"
