"""Corpora: TFDS builders for those that the TFDS catalogue lacks, and one function that loads any of either kind.

`classification`, `matching` and `translation` hold the builders by task, `word_order`, `paraphrases` and `number_words`
the generated corpora; `builder` is their base, `reading` and `download` get at the raw files, `loading` prepares and
reads without TensorFlow.
"""

from research.corpora.loading import Corpus, load_corpus

__all__ = ["Corpus", "load_corpus"]
