# The papers' claims, tested on the runs.csv of the configured experiments; seconds, no training.


localrules:
    write_claims,


rule write_claims:
    input:
        all_csvs,
    output:
        csv="results/claims/claims.csv",
        markdown="results/claims/claims.md",
        short="results/claims/claims_short.md",
        png="results/claims/claims.png",
        svg="results/claims/claims.svg",
        html=report(
            "results/claims/claims.html",
            caption="../report/claims.rst",
            category="papers",
            labels={"content": "claims", "form": "table"},
        ),
    log:
        "results/logs/claims.log",
    conda:
        "../../environment.yml"
    params:
        sources=report_sources,
    shell:
        "python -m prunebench claims --results results --out results/claims > {log} 2>&1"
