rule write_comparison:
    input:
        metrics=get_metrics,
    output:
        markdown=report(
            "results/tables/comparison.md",
            caption="../report/comparison-table.rst",
            category="Comparison",
        ),
        csv="results/tables/comparison.csv",
        latex="results/tables/comparison.tex",
    log:
        "logs/write_comparison.log",
    benchmark:
        "results/benchmarks/write_comparison.tsv"
    localrule: True
    container:
        get_container("faiss")
    params:
        # Snakemake compares inputs without their order, which is that of rows and bars.
        order=get_metrics,
        code=source.fingerprint("stages.write_comparison"),
        image=get_image("faiss"),
    shell:
        "python -m stages.write_comparison --metrics {input.metrics} --markdown {output.markdown} --csv {output.csv}"
        " --latex {output.latex} > {log} 2>&1"


rule plot_comparison:
    input:
        metrics=get_metrics,
    output:
        figure=report(
            "results/figures/comparison.png",
            caption="../report/comparison-figure.rst",
            category="Comparison",
        ),
    log:
        "logs/plot_comparison.log",
    benchmark:
        "results/benchmarks/plot_comparison.tsv"
    localrule: True
    container:
        get_container("faiss")
    params:
        # Snakemake compares inputs without their order, which is that of rows and bars.
        order=get_metrics,
        code=source.fingerprint("stages.plot"),
        image=get_image("faiss"),
    shell:
        "python -m stages.plot bars --metrics {input.metrics} --figure {output.figure} > {log} 2>&1"


rule plot_training_curves:
    input:
        histories=get_histories,
    output:
        figure=report(
            "results/figures/training-curves.png",
            caption="../report/training-curves.rst",
            category="Training",
        ),
    log:
        "logs/plot_training_curves.log",
    benchmark:
        "results/benchmarks/plot_training_curves.tsv"
    localrule: True
    container:
        get_container("faiss")
    params:
        names=list(experiment.trained),
        code=source.fingerprint("stages.plot"),
        image=get_image("faiss"),
    shell:
        "python -m stages.plot curves --histories {input.histories} --names {params.names}"
        " --figure {output.figure} > {log} 2>&1"


rule plot_clusters:
    input:
        unpack(get_clustering),
    output:
        figure=report(
            "results/figures/clusters/{encoder}.png",
            caption="../report/clusters.rst",
            category="Clusters",
        ),
    log:
        "logs/plot_clusters/{encoder}.log",
    benchmark:
        "results/benchmarks/plot_clusters/{encoder}.tsv"
    localrule: True
    container:
        get_container("faiss")
    params:
        code=source.fingerprint("stages.plot"),
        image=get_image("faiss"),
    shell:
        "python -m stages.plot clusters --assignments {input.assignments[0]} --images {input.images[0]}"
        " --figure {output.figure} > {log} 2>&1"


rule write_table:
    input:
        unpack(get_table_input),
    output:
        markdown=report("results/tables/{table}.md", caption="../report/table.rst", category="Tables"),
        csv="results/tables/{table}.csv",
        latex="results/tables/{table}.tex",
    log:
        "logs/write_table/{table}.log",
    benchmark:
        "results/benchmarks/write_table/{table}.tsv"
    wildcard_constraints:
        table=any_of(experiment.tables),
    localrule: True
    container:
        get_container("faiss")
    params:
        cells=get_cells,
        layout=get_layout,
        reported=get_reported,
        code=source.fingerprint("stages.write_table"),
        image=get_image("faiss"),
    shell:
        "python -m stages.write_table {params.cells} {params.layout} --markdown {output.markdown} --csv {output.csv}"
        " --latex {output.latex} > {log} 2>&1"


rule plot_table:
    input:
        table=lambda wildcards: f"results/tables/{experiment.figures[wildcards.figure].table}.csv",
    output:
        figure=report("results/figures/{figure}.png", caption="../report/table-figure.rst", category="Tables"),
    log:
        "logs/plot_table/{figure}.log",
    benchmark:
        "results/benchmarks/plot_table/{figure}.tsv"
    wildcard_constraints:
        figure=any_of(experiment.figures),
    localrule: True
    container:
        get_container("faiss")
    params:
        kind=lambda wildcards: experiment.figures[wildcards.figure].kind,
        options=get_figure_options,
        code=source.fingerprint("stages.plot"),
        image=get_image("faiss"),
    shell:
        "python -m stages.plot table-{params.kind} --table {input.table} {params.options}"
        " --figure {output.figure} > {log} 2>&1"


rule judge_claims:
    input:
        tables=sorted({f"results/tables/{claim.table}.csv" for claim in experiment.claims}),
    output:
        markdown=report("results/tables/claims.md", caption="../report/claims.rst", category="Tables"),
        csv="results/tables/claims.csv",
    log:
        "logs/judge_claims.log",
    benchmark:
        "results/benchmarks/judge_claims.tsv"
    localrule: True
    container:
        get_container("faiss")
    params:
        claims=get_claims(),
        code=source.fingerprint("stages.judge_claims"),
        image=get_image("faiss"),
    shell:
        "python -m stages.judge_claims {params.claims} --markdown {output.markdown} --csv {output.csv} > {log} 2>&1"


rule results_page:
    input:
        claims="results/tables/claims.md" if experiment.claims else [],
        tables=expand("results/tables/{table}.{kind}", table=experiment.tables, kind=["md", "csv"]),
        comparison="results/tables/comparison.md",
        # Linked, not read.
        figures=ancient(get_figures()),
    output:
        page=report("results/results.md", caption="../report/results-page.rst", category="Tables"),
    log:
        "logs/results_page.log",
    benchmark:
        "results/benchmarks/results_page.tsv"
    localrule: True
    container:
        get_container("faiss")
    params:
        sections=get_sections(),
        code=source.fingerprint("stages.results_page"),
        image=get_image("faiss"),
    shell:
        "python -m stages.results_page {params.sections} --page {output.page} > {log} 2>&1"
