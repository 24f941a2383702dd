r"""ESIM on SICK, entailment in three classes, by words, random vectors, 3 seeds, selected on the trial split.

Command:   python -m experiments.run --config configs/esim/sick.py \
               --workdir runs/esim/sick
Needs:     SICK_train.txt, SICK_trial.txt and SICK_test_annotated.txt in <manual_dir>/sick
Ours:      not measured
"""

from configs.esim import snli


def get_config():
    config = snli.get_config()
    config.replicas = 3
    config.data.corpus = "sick"
    config.data.premise, config.data.hypothesis = "sentence1", "sentence2"
    config.data.unlabelled = "refuse"
    config.data.tokenizer, config.data.lower = "blank", True
    config.data.buckets = (8, 12, 16, 32)
    config.model.variant = "rand"
    config.train.epochs = 12
    config.train.patience = 4
    return config
