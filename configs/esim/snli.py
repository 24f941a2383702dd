r"""ESIM of Chen et al. 2017 on SNLI, the paper's hyperparameters (section 4); the other configurations start from it.

Command:   python -m experiments.run --config configs/esim/snli.py \
               --workdir runs/esim/snli --config.word_vectors.path=glove.840B.300d.txt
Needs:     the corpus through TFDS (549,367 labelled pairs), GloVe 840B; pairs without a label are left out
Paper:     88.0 (Table 1, row 16)
Ours:      not measured
Note:      words by Moses's rules; configs/esim/snli_parses.py reads the authors' words and marks
"""

from configs.defaults import matching_defaults

PAPER = {"accuracy": 88.0, "where": "Table 1, row 16"}


def get_config():
    config = matching_defaults()
    config.paper = "esim"
    config.data.corpus, config.data.dev = "snli", "validation"
    config.data.premise, config.data.hypothesis = "premise", "hypothesis"
    config.data.unlabelled = "drop"
    config.data.tokenizer, config.data.lower = "moses", False
    config.data.buckets = (16, 32, 64, 128)
    config.word_vectors.unknown = "gaussian"

    config.model = dict(
        architecture="sequential",
        variant="non_static",
        embedding_dim=300,
        hidden=300,
        dropout=0.5,
        word_masks="position",  # of the word vectors' dropout; text, pair
        encoding="recurrent",
        attention="both",
        enhancement=True,
        projection=True,
        composition="recurrent",
        pooling="average_max",
        output="softmax",
        layers=1,
        masks=True,
        fused="",
    )
    config.optimizer = dict(
        name="adam",
        learning_rate=4e-4,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-8,
        warmup=0,
        clip_norm=10.0,
        anneal=0.5,
        least_rate=3e-6,
    )
    config.train.epochs = 30  # at most: the eighth halving ends the run
    config.train.batch_size = 32
    return config
