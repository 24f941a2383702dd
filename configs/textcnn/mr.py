r"""CNN-rand of Kim 2014 on movie reviews (MR), 10-fold cross-validation, the paper's hyperparameters (section 3.1).

Command:   python -m experiments.run --config configs/textcnn/mr.py \
               --workdir runs/textcnn/mr
Needs:     rt-polarity.pos and rt-polarity.neg (downloaded, or put into <manual_dir>/mr)
Paper:     76.1 (Table 2, CNN-rand)
Ours:      accuracy 76.01 ± 1.08 (n = 10); 12 min 55 s on AMD EPYC, 2 cores
"""

from configs.defaults import defaults

PAPER = {"accuracy": 76.1, "where": "Table 2, CNN-rand"}


def get_config():
    config = defaults()
    config.paper = "textcnn"
    config.folds = 10

    config.data.corpus = "mr"
    config.data.tokenizer = "clean_str"
    config.data.buckets = (16, 24, 32, 56)

    config.model = dict(
        variant="rand",
        embedding_dim=300,
        kernel_sizes=(3, 4, 5),
        filters=100,
        activation="relu",
        pooling="max",
        k=1,
        dropout=0.5,
        padding="wide",
        positions=False,
        attention=False,
        layers=1,
    )
    config.optimizer = dict(name="adadelta", learning_rate=1.0, rho=0.95, epsilon=1e-6, max_norm=3.0, by_rows=True)
    config.train.epochs = 25
    config.train.patience = 5
    config.train.batch_size = 50
    return config
