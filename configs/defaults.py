"""The fields that every run has, with their meaning. A configuration starts from these and changes what it needs.

Overrides on the command line name a field by its path: `--config.train.epochs=3 --config.data.buckets=16,32`.
"""

from ml_collections import ConfigDict


def defaults() -> ConfigDict:
    config = ConfigDict()
    config.paper = ""  # research/<paper>.py
    config.task = "classification"
    config.seed = 0  # of initialisation, dropout and data order
    config.replicas = 1  # seeds: seed, seed + 1, ...
    config.folds = 1  # 1: the corpus's own splits; 10: cross-validation

    config.data = ConfigDict()
    config.data.corpus = ""  # a builder of research/corpora or a name of the TFDS catalogue
    config.data.text = "text"  # the columns
    config.data.label = "label"
    config.data.positive = ""  # of two classes the one of F1, AUC and the bot, by its name; empty: the corpus's second
    config.data.train = "train"  # the corpus's splits
    config.data.dev = ""  # empty: dev_fraction of the training split, drawn at random
    config.data.test = "test"
    config.data.more_tests = ()  # further splits to score: test_longer,test_2018
    config.data.dev_fraction = 0.1
    config.data.train_fraction = 1.0  # less: a random part of the training examples
    config.data.split_seed = 0  # of folds and of the dev part; the same for all replicas
    config.data.tokenizer = "blank"  # one of the table in research/text.py
    config.data.lower = True
    config.data.half_width = False  # full-width letters, digits and signs become half-width ones first
    config.data.min_count = 1  # rarer tokens of the training part are unknown
    config.data.max_vocabulary = 0  # 0: no limit
    config.data.unknown = "token"  # unknown tokens become <unk>; skip: they are left out
    config.data.buckets = (16, 32, 64)  # lengths that batches are padded to; longer texts are cut to the last

    config.model = ConfigDict()  # what research/<paper>.py explains; each paper's first configuration lists the fields
    config.optimizer = ConfigDict()  # what research/optimizers.py has for its `name`

    config.word_vectors = ConfigDict()
    config.word_vectors.path = ""  # word2vec (text or binary), GloVe or fastText file; empty: random vectors
    config.word_vectors.unknown = "uniform"  # how vectors of words that it lacks are drawn: uniform or gaussian

    config.train = ConfigDict()
    config.train.epochs = 10
    config.train.steps = 0  # ends the run sooner, after so many; 0: all epochs
    config.train.batch_size = 50
    config.train.batch_tokens = 0  # tokens of a batch's longest column, with its padding; 0: batch_size rows
    config.train.eval_batch_size = 250
    config.train.micro_batches = 1  # parts of a batch whose gradients are computed one after another
    config.train.eval_every = 0  # steps between evaluations of the dev split; 0: once an epoch
    config.train.monitor = "accuracy"  # the dev metric that chooses the parameters to keep
    config.train.average = 0  # keep the mean of the parameters at so many last evaluations; 0: keep the best
    config.train.patience = 0  # evaluations without improvement before a replica stops; 0: trains all epochs
    config.train.log_every = 20  # steps between updates of the progress bar and checks for NaN
    config.train.checkpoint_seconds = 60.0  # least time between checkpoints
    config.train.parallel = "jit"  # over a sharded batch, or pmap
    config.train.replicas_together = "auto"  # in one vmapped program: yes, no, or auto (on accelerators)
    config.train.stream = False  # batches put together on the host and prefetched, for corpora too large for the device
    return config


def matching_defaults() -> ConfigDict:
    """The fields of matching: `data.premise` and `data.hypothesis` name the columns, in place of text."""
    config = defaults()
    config.task = "matching"
    del config.data.text
    config.data.premise = "sentence1"
    config.data.hypothesis = "sentence2"
    config.data.tree = ""  # parse (the trees of binarised parses) or full (over any tokens), for models that read trees
    config.data.begin = ""  # a word before and one after every text, such as _BOS_ and _EOS_; empty: none
    config.data.end = ""
    config.data.unlabelled = "refuse"  # pairs without a label; drop: they are left out
    return config


def translation_defaults() -> ConfigDict:
    """The fields of translation: `data.source` and `data.target` name the columns, in place of text and label."""
    config = defaults()
    config.task = "translation"
    del config.data.text, config.data.label, config.data.positive, config.data.half_width, config.word_vectors
    # an entry of data.buckets may also be two lengths, of source and target: "(12,10),(24,20)"
    config.data.source = ""  # languages by their codes, where the corpus has them
    config.data.target = ""
    config.data.tokenizer = "bpe"  # bpe or unigram (sentencepiece), or research/text.py's, except clean_str
    config.data.target_tokenizer = ""  # empty: the same
    config.data.subword_size = 8000
    config.data.joint = True  # one vocabulary for both languages
    config.data.lower = False
    config.data.pack = False  # several training pairs in a row
    config.train.monitor = "loss"
    config.train.label_smoothing = 0.1
    config.decode = ConfigDict()
    config.decode.beam = 4
    config.decode.alpha = 0.6  # of the length penalty ((offset + length) / (offset + 1))^alpha
    config.decode.offset = 5.0
    config.decode.extra = 50  # longest output: the source's length and so many tokens
    config.decode.batch_size = 64
    config.decode.replace_unknown = False  # unknown words of the output by what the source has there
    # file of lines source word, tab, target word; a source word it lacks is copied; with data.lower case does not count
    config.decode.dictionary = ""
    config.decode.tokenize = (
        ""  # words for BLEU, by sacreBLEU's name; empty: zh where the target is zh or split as Chinese
    )
    return config
