# prunebench: from data to tables and figures. `snakemake --cores all` runs the experiments of
# config/config.yaml. The rules are in workflow/rules; the includes below are in the order of stages.
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
include: "workflow/rules/report.smk"
include: "workflow/rules/costs.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/failed.smk"


localrules:
    all,
    bases,
    runs,
    tables,
    figures,
    reports,
    costs,
    claims,


# The files of every stage are inputs, so that deleted files are made again.
rule all:
    input:
        all_runs,
        all_csvs,
        all_tables,
        all_figures,
        all_reports,


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


rule reports:
    input:
        all_reports,


rule costs:
    input:
        "results/costs.html",


rule claims:
    input:
        "results/claims/claims.html",
