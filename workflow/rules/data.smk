# Store each data set as one file of tensors, which all jobs load.


rule data:
    output:
        "results/data/{dataset}.safetensors",
    log:
        "results/logs/data/{dataset}.log",
    conda:
        "../../environment.yml"
    resources:
        data_dir=str(SETTINGS.data_dir),
        mem_mb=4000,
        runtime=60,
    params:
        code=code_of_data,
    shell:
        "python -m prunebench data --dataset {wildcards.dataset}"
        " --data-dir {resources.data_dir:q} > {log} 2>&1"
