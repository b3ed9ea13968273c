rule embed:
    input:
        weights=tracked("results/encoders/{encoder}/weights.safetensors"),
        train=tracked("results/datasets/{dataset}/train.h5"),
        val=tracked("results/datasets/{dataset}/val.h5"),
    output:
        train=with_digest("results/embeddings/{encoder}/{dataset}-train.h5"),
        val=with_digest("results/embeddings/{encoder}/{dataset}-val.h5"),
    log:
        "logs/embed/{encoder}/{dataset}.log",
    benchmark:
        "results/benchmarks/embed/{encoder}/{dataset}.tsv"
    container:
        get_container("torch")
    resources:
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(240),
        cpus_per_task=1,
    params:
        augmentation=get_augmentation,
        code=lambda wildcards: get_backbone_code(wildcards, "embed"),
        image=get_image("torch"),
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.embed --weights {input.weights[0]}"
        " --augmentation {params.augmentation} --workers $(({resources.cpus_per_task} - 1))"
        " --images {input.train[0]} {input.val[0]} --embeddings {output.train[0]} {output.val[0]} > {log} 2>&1"
