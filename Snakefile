# prunebench: from the data to tables and figures. `snakemake --cores all` runs what
# config/config.yaml names; the rules stand in workflow/rules in the order in which data flow.
from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/config.smk"


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/start.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/base.smk"
include: "workflow/rules/prune.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/costs.smk"


localrules:
    all,
    bases,
    runs,
    tables,
    figures,
    costs,


# What is deleted by hand is made again, since each step's files are asked for.
rule all:
    input:
        all_runs,
        all_csvs,
        all_tables,
        all_figures,


rule bases:
    input:
        all_bases,


rule runs:
    input:
        all_runs,


rule tables:
    input:
        all_tables,


rule figures:
    input:
        all_figures,


rule costs:
    input:
        "results/costs.html",
