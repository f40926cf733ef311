# Base networks, trained once per data set, network, recipe and seed, and shared by all experiments.
# Snakemake deletes a declared log before each start of a job, also while an earlier one still runs.
# The program therefore appends the output of all attempts to a log of its own, seed<n>.log; the
# declared one has only what is said outside of training, and the error, for `show-failed-logs`.


rule base:
    input:
        "results/data/{dataset}.safetensors",
    output:
        "results/base/{dataset}/{architecture}/{recipe}/seed{seed}/finished.json",
    log:
        "results/logs/base/{dataset}/{architecture}/{recipe}/seed{seed}.job.log",
    priority: 1  # before runs of other networks, since runs wait for it
    conda:
        "../../environment.yml"
    threads: base_threads
    resources:
        gpu=gpus,
        launcher="python",
        machine=SETTINGS.machine.model_dump_json(),
        mem_mb=4000,
        runtime=240,
    params:
        spec=base_hash,
        threads=base_threads,
    shell:
        "{resources.launcher} -m prunebench base --dataset {wildcards.dataset}"
        " --architecture {wildcards.architecture} --recipe {wildcards.recipe}"
        " --seed {wildcards.seed} --threads {params.threads} --expect {params.spec}"
        " --log-folder results/logs --machine {resources.machine:q} > {log} 2>&1"
