localrules:
    tabulate,
    plot_comparison,
    plot_training_curves,
    plot_clusters,


rule tabulate:
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
        "logs/tabulate.log",
    benchmark:
        "results/benchmarks/tabulate.tsv"
    container:
        get_container("faiss")
    params:
        code=source.fingerprint("stages.tabulate"),
        image=get_image("faiss"),
    shell:
        "python -m stages.tabulate --metrics {input.metrics} --markdown {output.markdown} --csv {output.csv}"
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
    container:
        get_container("faiss")
    params:
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
    container:
        get_container("faiss")
    params:
        names=get_trained(),
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
    container:
        get_container("faiss")
    params:
        code=source.fingerprint("stages.plot"),
        image=get_image("faiss"),
    shell:
        "python -m stages.plot clusters --assignments {input.assignments[0]} --images {input.images[0]}"
        " --figure {output.figure} > {log} 2>&1"
