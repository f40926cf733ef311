# Runs: one method on one base network, at one ratio, with one seed. A killed job resumes from its
# checkpoint, which is not an output, since Snakemake deletes the outputs of a failed job.


rule prune:
    input:
        data="results/data/{dataset}.safetensors",
        start=start_files,
    output:
        training="results/{experiment}/{dataset}/{architecture}/{method}/{setting}/{ratio}/seed{seed}/training.json",
        structure="results/{experiment}/{dataset}/{architecture}/{method}/{setting}/{ratio}/seed{seed}/structure.json",
        model="results/{experiment}/{dataset}/{architecture}/{method}/{setting}/{ratio}/seed{seed}/model.safetensors",
        masks="results/{experiment}/{dataset}/{architecture}/{method}/{setting}/{ratio}/seed{seed}/masks.safetensors",
        history="results/{experiment}/{dataset}/{architecture}/{method}/{setting}/{ratio}/seed{seed}/history.csv",
        diagnostics="results/{experiment}/{dataset}/{architecture}/{method}/{setting}/{ratio}/seed{seed}/diagnostics.csv",
    log:
        "results/logs/{experiment}/{dataset}/{architecture}/{method}/{setting}/{ratio}/seed{seed}.log",
    conda:
        "../../environment.yml"
    threads: run_threads
    resources:
        gpu=gpus,
        machine=SETTINGS.machine.model_dump_json(),
        mem_mb=4000,
        runtime=240,
    params:
        spec=run_hash,
    shell:
        "python -m prunebench prune --experiment {wildcards.experiment}"
        " --dataset {wildcards.dataset} --architecture {wildcards.architecture}"
        " --method {wildcards.method} --setting {wildcards.setting} --ratio {wildcards.ratio}"
        " --seed {wildcards.seed} --runs results/resolved/{wildcards.experiment}.jsonl"
        " --expect {params.spec} --machine {resources.machine:q} > {log} 2>&1"
