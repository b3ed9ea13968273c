rule fetch_dataset:
    output:
        train=with_digest("results/datasets/{dataset}/train.h5"),
        val=with_digest("results/datasets/{dataset}/val.h5"),
    log:
        "logs/fetch_dataset/{dataset}.log",
    benchmark:
        "results/benchmarks/fetch_dataset/{dataset}.tsv"
    container:
        get_container("torch")
    resources:
        mem_mb=scaled(8000),
        runtime=scaled(1440),
        cpus_per_task=1,
        # No parameter: where the images are makes no difference, only what they are.
        path=get_source_path,
    params:
        source=lambda wildcards: experiment.datasets[wildcards.dataset].source,
        options=get_source_options,
        content=get_source_content,
        code=get_source_code,
        image=get_image("torch"),
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.fetch_dataset --source {params.source} {params.options} {resources.path}"
        " --name {wildcards.dataset} --train {output.train[0]} --val {output.val[0]}"
        " --downloads results/downloads --workers $(({resources.cpus_per_task} - 1)) > {log} 2>&1"


rule label_subset:
    input:
        train=tracked("results/datasets/{dataset}/train.h5"),
    output:
        subset=with_digest("results/subsets/{dataset}-{percent}.txt"),
    log:
        "logs/label_subset/{dataset}-{percent}.log",
    benchmark:
        "results/benchmarks/label_subset/{dataset}-{percent}.tsv"
    wildcard_constraints:
        percent=r"\d+",
    localrule: True
    container:
        get_container("faiss")
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(60),
    params:
        code=source.fingerprint("stages.label_subset"),
        image=get_image("faiss"),
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.label_subset --percent {wildcards.percent}"
        " --train {input.train[0]} --subset {output.subset[0]} > {log} 2>&1"
