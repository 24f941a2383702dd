"""Sentences to translations with a trained model, and their scores by sacreBLEU."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from research.batches import Batch, Lengths
from research.codecs import Codec
from research.decoding import NEVER, Hypotheses, Search, search
from research.errors import ConfigError
from research.tasks import Translation, shapes
from research.text import EOS


@dataclasses.dataclass(frozen=True)
class Output:
    """One translation: its ids without </s>, and its log-probability divided by the length penalty."""

    ids: list[int]
    score: float


TOKENIZERS = ("13a", "zh", "char", "intl", "none")
"""Of sacreBLEU, those that need no further package."""


def scored_words(config) -> str:
    """What makes words of translations for BLEU: `decode.tokenize`, or where it is empty `zh` for Chinese by its code,
    else `13a`. ConfigError where it is unknown."""
    name = config.decode.get("tokenize", "") or ("zh" if config.data.target == "zh" else "13a")
    if name not in TOKENIZERS:
        raise ConfigError(f"decode.tokenize: '{name}' is none of {', '.join(TOKENIZERS)}")
    return name


def decoder(task: Translation, options: Search, prefix: Sequence[int] = ()) -> Callable:
    """`(variables, batch) -> Hypotheses` for the sources of a batch. prefix: ids that every output begins with."""
    begin = np.array(prefix, np.int32)[None]

    def decode(variables, batch: Batch) -> Hypotheses:
        source, segments = batch.tokens["source"], task.segments(batch, "source")
        given = np.repeat(begin, len(source), axis=0) if begin.size else None
        return search(task.model, variables, source, segments, options, given)

    return decode


def check(task: Translation, options: Search, bucket: Lengths) -> None:
    """ConfigError where the model cannot decode sources of the bucket's length: better before training than after."""
    source = jax.ShapeDtypeStruct((1, dict(bucket)["source"]), np.int32)
    jax.eval_shape(lambda *x: search(task.model, *x, options), shapes(task, bucket), source, source)


def outputs(found: Hypotheses) -> list[Output]:
    """The outputs of one sentence, from arrays (N, T) and (N,), the best one first; fewer than N where the search found
    fewer, but at least one."""
    cut = lambda row: row[: int(np.argmax(row == EOS))] if np.any(row == EOS) else row[:0]
    kept = max(1, int(np.sum(found.scores > NEVER / 2)))
    return [Output(cut(row).tolist(), float(score)) for row, score in zip(found.tokens[:kept], found.scores)]


def score(
    translations: Sequence[str], references: Sequence[str], tokenize: str, *, lower: bool = False, samples: int = 1000
) -> tuple[dict[str, float], dict[str, str], dict[str, list[float] | None]]:
    """Metrics in percent (`bleu`, lower-cased `bleu_lc`, `chrf`, `exact_match`), sacreBLEU's signatures, and the 95 %
    intervals of `samples` bootstrap samples of the sentences (None where sacreBLEU cannot say). tokenize: sacreBLEU's
    name for what makes words of both for BLEU. lower: `exact_match` is of lower-cased sentences."""
    metrics, signatures, intervals = {}, {}, {}
    for name, scorer in _scorers(tokenize).items():
        intervals[name] = None
        try:
            found = scorer.corpus_score(translations, [references], n_bootstrap=samples)
            mean, half = float(found._mean), float(found._ci)  # public only as the text that format() makes of them
            intervals[name] = [mean - half, mean + half]
        except TypeError:  # sacreBLEU 2.6 cannot average samples of which some have no n-gram in common: chrF 0
            found = scorer.corpus_score(translations, [references])
        metrics[name], signatures[name] = float(found.score), str(scorer.get_signature())
    same = lambda text: text.strip().lower() if lower else text.strip()
    right = [same(one) == same(other) for one, other in zip(translations, references)]
    metrics["exact_match"] = 100.0 * float(np.mean(right))
    return metrics, signatures, intervals


def compare(
    systems: dict[str, Sequence[str]], references: Sequence[str], tokenize: str, samples: int = 1000
) -> dict[str, list]:
    """sacreBLEU's paired bootstrap (Koehn 2004) of two or more systems' translations of the same sentences.

    Returns for each of `bleu`, `bleu_lc` and `chrf` one result a system, the first of which is the baseline: `score`,
    `mean` and `ci` of the samples (95 %: mean ± ci), `p_value` (None for the baseline)."""
    from sacrebleu.significance import PairedTest

    found = {}
    for name, scorer in _scorers(tokenize).items():  # one by one: sacreBLEU calls both forms of BLEU the same
        options = {"test_type": "bs", "n_samples": samples}
        _, scores = PairedTest(list(systems.items()), {name: scorer}, [references], **options)()
        (found[name],) = (results for key, results in scores.items() if key != "System")
    return found


def _scorers(tokenize: str) -> dict:
    from sacrebleu.metrics import BLEU, CHRF  # imported on use: only runs of translation need it

    return {"bleu": BLEU(tokenize=tokenize), "bleu_lc": BLEU(tokenize=tokenize, lowercase=True), "chrf": CHRF()}


def texts(found: Sequence[Hypotheses], codec: Codec) -> list[str]:
    """The best translation of every sentence."""
    return [codec.decode(outputs(one)[0].ids) for one in found]
