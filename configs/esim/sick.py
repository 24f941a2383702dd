r"""ESIM on SICK, entailment in three classes, by words, random vectors, 3 seeds.

On the trial split, of 500 pairs, accuracy goes up and down by several points from one epoch to the next; so the mean of
the parameters at the last seven epochs is kept, not the best of them. Words seen once are unknown, so that there is
something to train the vector of unknown words on. Equal words of a pair keep the same components in dropout, unlike in
the authors' code: research/layers.py, `drop_words`.

Command:   python -m experiments.run --config configs/esim/sick.py \
               --workdir runs/esim/sick
Needs:     SICK_train.txt, SICK_trial.txt and SICK_test_annotated.txt in <manual_dir>/sick
Paper:     none: not one of its corpora
Ours:      accuracy 83.30 ± 0.11 (n = 3); 30 min 55 s on AMD EPYC, 1 core
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
    config.data.min_count = 2
    config.model.variant, config.model.word_masks = "rand", "pair"
    config.optimizer.anneal = 0.0
    config.train.epochs = 12
    config.train.average = 7
    return config
