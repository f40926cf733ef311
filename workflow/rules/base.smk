# Base networks: trained once per data set, network, recipe and seed, shared by all experiments.


rule base:
    input:
        "results/data/{dataset}.safetensors",
    output:
        training="results/base/{dataset}/{architecture}/{recipe}/seed{seed}/training.json",
        structure="results/base/{dataset}/{architecture}/{recipe}/seed{seed}/structure.json",
        model="results/base/{dataset}/{architecture}/{recipe}/seed{seed}/model.safetensors",
        history="results/base/{dataset}/{architecture}/{recipe}/seed{seed}/history.csv",
    log:
        "results/logs/base/{dataset}/{architecture}/{recipe}/seed{seed}.log",
    conda:
        "../../environment.yml"
    threads: base_threads
    resources:
        gpu=gpus,
        device=SETTINGS.device,
        checkpoint_seconds=str(SETTINGS.checkpoint_seconds),
        options=SETTINGS.machine_options,
        data_dir=SETTINGS.data_dir,
        mem_mb=4000,
        runtime=240,
    params:
        spec=base_hash,
        threads=base_threads,
    shell:
        "python -m prunebench base --dataset {wildcards.dataset}"
        " --architecture {wildcards.architecture} --recipe {wildcards.recipe}"
        " --seed {wildcards.seed} --threads {params.threads} --expect {params.spec}"
        " --device {resources.device} --checkpoint-seconds {resources.checkpoint_seconds}"
        " --data-dir {resources.data_dir:q} {resources.options} > {log} 2>&1"
