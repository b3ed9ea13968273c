# Evaluations that need the network itself, not only its embeddings.


rule layer_probe:
    input:
        weights=tracked("results/encoders/{encoder}/weights.safetensors"),
        train=tracked("results/datasets/{dataset}/train.h5"),
        val=tracked("results/datasets/{dataset}/val.h5"),
    output:
        metrics="results/metrics/{encoder}/{dataset}-{evaluation}.json",
    log:
        "logs/layer_probe/{encoder}/{dataset}-{evaluation}.log",
    benchmark:
        "results/benchmarks/layer_probe/{encoder}/{dataset}-{evaluation}.tsv"
    wildcard_constraints:
        evaluation=any_of(experiment.evaluations_of("layers")),
    container:
        get_container("torch")
    resources:
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(1440),
        cpus_per_task=get_cores("layer_probe"),
    params:
        options=get_evaluation_options,
        augmentation=get_augmentation,
        code=lambda wildcards: get_backbone_code(wildcards, "layer_probe"),
        image=get_image("torch"),
        checkpoints="results/checkpoints/{encoder}--{dataset}--{evaluation}",
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.lease {resources.gpu}"
        " python -m stages.layer_probe {params.options} --name {wildcards.evaluation}"
        " --weights {input.weights[0]} --train {input.train[0]} --val {input.val[0]}"
        " --augmentation {params.augmentation} --workers $(({resources.cpus_per_task} - 1))"
        " --metrics {output.metrics} --checkpoints {params.checkpoints} --checkpoint-key {params.code}-{params.image:q} > {log} 2>&1"


rule cost:
    input:
        unpack(get_cost_input),
    output:
        metrics="results/metrics/{encoder}/{dataset}-{evaluation}.json",
    log:
        "logs/cost/{encoder}/{dataset}-{evaluation}.log",
    benchmark:
        "results/benchmarks/cost/{encoder}/{dataset}-{evaluation}.tsv"
    wildcard_constraints:
        evaluation=any_of(experiment.evaluations_of("cost")),
    container:
        get_container("torch")
    resources:
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(60),
    params:
        options=get_evaluation_options,
        networks=get_cost_flags,
        code=get_cost_code,
        image=get_image("torch"),
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.lease {resources.gpu}"
        " python -m stages.cost {params.options} --name {wildcards.evaluation}"
        " {params.networks} --dataset {wildcards.dataset} --metrics {output.metrics} > {log} 2>&1"


rule voc_detection:
    input:
        weights=tracked("results/encoders/{encoder}/weights.safetensors"),
        train=tracked("results/datasets/{dataset}/train.h5"),
        val=tracked("results/datasets/{dataset}/val.h5"),
    output:
        metrics="results/metrics/{encoder}/{dataset}-{evaluation}.json",
    log:
        "logs/voc_detection/{encoder}/{dataset}-{evaluation}.log",
    benchmark:
        "results/benchmarks/voc_detection/{encoder}/{dataset}-{evaluation}.tsv"
    wildcard_constraints:
        evaluation=any_of(experiment.evaluations_of("voc-detection")),
    container:
        get_container("torch")
    resources:
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(1440),
        cpus_per_task=get_cores("voc_detection"),
    params:
        options=get_evaluation_options,
        code=get_detection_code,
        image=get_image("torch"),
        checkpoints="results/checkpoints/{encoder}--{dataset}--{evaluation}",
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.lease {resources.gpu}"
        " python -m stages.voc_detection {params.options} --name {wildcards.evaluation}"
        " --weights {input.weights[0]} --train {input.train[0]} --val {input.val[0]}"
        " --workers $(({resources.cpus_per_task} - 1)) --metrics {output.metrics}"
        " --checkpoints {params.checkpoints} --checkpoint-key {params.code}-{params.image:q} > {log} 2>&1"
