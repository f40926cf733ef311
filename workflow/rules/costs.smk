# Printed costs of the papers compared with recomputed ones: minutes, without data or training.


localrules:
    write_costs,


rule write_costs:
    output:
        csv="results/costs.csv",
        bases="results/costs_bases.csv",
        markdown="results/costs.md",
        html=report(
            "results/costs.html",
            caption="../report/costs.rst",
            category="papers",
            labels={"content": "printed costs", "form": "table"},
        ),
    log:
        "results/logs/costs.log",
    conda:
        "../../environment.yml"
    threads: 8
    params:
        sources=cost_sources,
    shell:
        "python -m prunebench costs --workers {threads} --out results > {log} 2>&1"
