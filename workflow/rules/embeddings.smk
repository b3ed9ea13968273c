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
    wildcard_constraints:
        dataset=any_of(experiment.datasets_in_one),
    container:
        get_container("torch")
    resources:
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(240),
        cpus_per_task=get_cores("embed"),
    params:
        augmentation=get_augmentation,
        shard="",
        code=lambda wildcards: get_backbone_code(wildcards, "embed"),
        image=get_image("torch"),
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.lease {resources.gpu}"
        " python -m stages.embed --weights {input.weights[0]}"
        " --augmentation {params.augmentation} --workers $(({resources.cpus_per_task} - 1)) {params.shard}"
        " --images {input.train[0]} {input.val[0]} --embeddings {output.train[0]} {output.val[0]} > {log} 2>&1"


use rule embed as embed_shard with:
    output:
        train=with_digest("results/embeddings/{encoder}/{dataset}-train.shards/{shard}of{shards}.h5"),
        val=with_digest("results/embeddings/{encoder}/{dataset}-val.shards/{shard}of{shards}.h5"),
    log:
        "logs/embed_shard/{encoder}/{dataset}-{shard}of{shards}.log",
    benchmark:
        "results/benchmarks/embed_shard/{encoder}/{dataset}-{shard}of{shards}.tsv"
    wildcard_constraints:
        shard=r"\d+",
        shards=r"\d+",
    params:
        shard="--shard {shard} {shards}",


rule embed_view:
    input:
        weights=tracked("results/encoders/{encoder}/weights.safetensors"),
        train=tracked("results/datasets/{dataset}/train.h5"),
    output:
        train=with_digest("results/views/{encoder}/{dataset}-{augmentation}/{view}.h5"),
    log:
        "logs/embed_view/{encoder}/{dataset}-{augmentation}/{view}.log",
    benchmark:
        "results/benchmarks/embed_view/{encoder}/{dataset}-{augmentation}/{view}.tsv"
    wildcard_constraints:
        view=r"\d+",
    container:
        get_container("torch")
    resources:
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(240),
        cpus_per_task=get_cores("embed_view"),
    params:
        code=lambda wildcards: get_backbone_code(wildcards, "embed", wildcards.augmentation),
        image=get_image("torch"),
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.lease {resources.gpu}"
        " python -m stages.embed --weights {input.weights[0]}"
        " --augmentation {wildcards.augmentation} --view {wildcards.view}"
        " --workers $(({resources.cpus_per_task} - 1))"
        " --images {input.train[0]} --embeddings {output.train[0]} > {log} 2>&1"


rule join_embeddings:
    input:
        unpack(get_shards),
    output:
        train=with_digest("results/embeddings/{encoder}/{dataset}-train.h5"),
        val=with_digest("results/embeddings/{encoder}/{dataset}-val.h5"),
    log:
        "logs/join_embeddings/{encoder}/{dataset}.log",
    benchmark:
        "results/benchmarks/join_embeddings/{encoder}/{dataset}.tsv"
    wildcard_constraints:
        dataset=any_of(experiment.datasets_in_shards),
    localrule: True
    container:
        get_container("torch")
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(60),
    params:
        shards=lambda wildcards: experiment.datasets[wildcards.dataset].shards,
        folders=get_shard_folders,
        code=source.fingerprint("stages.join_embeddings"),
        image=get_image("torch"),
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.join_embeddings --shards {params.shards}"
        " --folders {params.folders} --embeddings {output.train[0]} {output.val[0]} > {log} 2>&1"
