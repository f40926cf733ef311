# Runs: one method on one base network, at one ratio, with one seed. The only output is a receipt:
# Snakemake deletes the outputs of failed and of interrupted jobs. Checkpoints and results survive
# that, so a killed job resumes, and one that finds a finished run only writes the receipt again.
# base.smk says why the program appends to seed<n>.log.


rule prune:
    input:
        data="results/data/{dataset}.safetensors",
        start=start_files,
    output:
        "results/{experiment}/{dataset}/{architecture}/{method}/{setting}/{ratio}/seed{seed}/finished.json",
    log:
        "results/logs/{experiment}/{dataset}/{architecture}/{method}/{setting}/{ratio}/seed{seed}.job.log",
    conda:
        "../../environment.yml"
    threads: run_threads
    resources:
        gpu=gpus,
        launcher="python",
        machine=SETTINGS.machine.model_dump_json(),
        mem_mb=4000,
        runtime=240,
    params:
        spec=run_hash,
    shell:
        "{resources.launcher} -m prunebench prune --experiment {wildcards.experiment}"
        " --dataset {wildcards.dataset} --architecture {wildcards.architecture}"
        " --method {wildcards.method} --setting {wildcards.setting} --ratio {wildcards.ratio}"
        " --seed {wildcards.seed} --runs results/resolved/{wildcards.experiment}.jsonl"
        " --log-folder results/logs --expect {params.spec} --machine {resources.machine:q} > {log} 2>&1"


# With `runs_per_job`: several runs of a network in one process, which starts and loads data once.
rule prune_part:
    input:
        data="results/data/{dataset}.safetensors",
        start=pruned_part_starts,
    output:
        touch("results/{experiment}/{dataset}/{architecture}/pruned_{size}_{part}.done"),
    log:
        "results/logs/{experiment}/{dataset}/{architecture}/pruned_{size}_{part}.log",
    conda:
        "../../environment.yml"
    threads: pruned_part_threads
    resources:
        gpu=gpus,
        launcher="python",
        machine=SETTINGS.machine.model_dump_json(),
        mem_mb=4000,
        runtime=240,
    params:
        spec=pruned_part_hash,
        flags=pruned_part_flags,
    shell:
        "{resources.launcher} -m prunebench prune {params.flags} --log-folder results/logs"
        " --runs results/resolved/{wildcards.experiment}.jsonl"
        " --expect {params.spec:q} --machine {resources.machine:q} > {log} 2>&1"
