# Evaluations that need the network itself.


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
        mem_mb=16000,
        runtime=1440,
        cpus_per_task=1,
    params:
        options=get_evaluation_options,
        code=lambda wildcards: get_backbone_code(wildcards, "stages.voc_detection"),
        image=get_image("torch"),
        checkpoints="results/checkpoints/{encoder}--{dataset}-{evaluation}",
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.voc_detection {params.options} --name {wildcards.evaluation}"
        " --weights {input.weights[0]} --train {input.train[0]} --val {input.val[0]}"
        " --workers $(({resources.cpus_per_task} - 1)) --metrics {output.metrics}"
        " --checkpoints {params.checkpoints} --checkpoint-key {params.code} > {log} 2>&1"
