# Measure costs and latencies, then collect all results of an experiment in runs.csv. One process
# measures a part of the runs of a network, since its start takes longer than measuring a run. It
# keeps earlier measurements of unchanged runs, so a killed job resumes. The later of the two jobs of a
# part keeps its rows for `collect`, which then need not read all runs alone.


rule measure_cost:
    input:
        measured_part_files,
    output:
        touch("results/{experiment}/{dataset}/{architecture}/cost_{part}.done"),
    log:
        "results/logs/{experiment}/{dataset}/{architecture}/measure_cost_{part}.log",
    benchmark:
        "results/benchmarks/{experiment}/{dataset}/{architecture}/measure_cost_{part}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        flags=measured_part_flags,
    shell:
        "python -m prunebench measure --only cost {params.flags} --rows"
        " results/{wildcards.experiment}/{wildcards.dataset}/{wildcards.architecture}/"
        "rows_{wildcards.part}.jsonl"
        " --runs results/resolved/{wildcards.experiment}.jsonl > {log} 2>&1"


# Needs the machine to itself: Snakemake lowers the number of threads to all available cores.
rule measure_latency:
    input:
        measured_part_files,
    output:
        touch("results/{experiment}/{dataset}/{architecture}/latency_{part}.done"),
    log:
        "results/logs/{experiment}/{dataset}/{architecture}/measure_latency_{part}.log",
    benchmark:
        "results/benchmarks/{experiment}/{dataset}/{architecture}/measure_latency_{part}.tsv"
    conda:
        "../../environment.yml"
    threads: 1024
    resources:
        gpu=gpus,
        machine=SETTINGS.machine.model_dump_json(),
        mem_mb=4000,
        runtime=120,
    params:
        flags=measured_part_flags,
    shell:
        "python -m prunebench measure --only latency {params.flags} --rows"
        " results/{wildcards.experiment}/{wildcards.dataset}/{wildcards.architecture}/"
        "rows_{wildcards.part}.jsonl"
        " --runs results/resolved/{wildcards.experiment}.jsonl"
        " --machine {resources.machine:q} > {log} 2>&1"


localrules:
    collect,


rule collect:
    input:
        measured_flags,
        reused_data,
    output:
        "results/{experiment}/runs.csv",
    log:
        "results/logs/{experiment}/collect.log",
    conda:
        "../../environment.yml"
    params:
        published=published_rows,
        sources=method_sources,
        reuse=reuse_options,
        reused=reused_rows,
    shell:  # the terminal shows how to repeat runs that other code has made
        "python -m prunebench collect --experiment {wildcards.experiment}"
        " --runs results/resolved/{wildcards.experiment}.jsonl {params.reuse}"
        " 2>&1 > {log} | tee -a {log}"
