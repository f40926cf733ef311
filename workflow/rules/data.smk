# A data set's source becomes one file of tensors, which all jobs load.


rule data:
    output:
        "results/data/{dataset}.safetensors",
    log:
        "results/logs/data/{dataset}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "python -m prunebench data --dataset {wildcards.dataset}"
        " --data-dir {DATA_DIR} > {log} 2>&1"
