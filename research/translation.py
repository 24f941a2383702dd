"""Sentences to translations with a trained model, and their scores by sacreBLEU."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from research.batches import Batch, Lengths
from research.codecs import Codec, Words, tokenizers
from research.corpora.reading import raw_lines
from research.decoding import NEVER, Hypotheses, Search, search
from research.errors import ConfigError, DataError
from research.tasks import Translation, shapes
from research.text import BOS, EOS, UNKNOWN, share_of_chinese


@dataclasses.dataclass(frozen=True)
class Output:
    """One translation: its ids without </s>, its log-probability divided by the length penalty, and where asked for the
    place of the source word that each id attended to most."""

    ids: list[int]
    score: float
    places: list[int] = dataclasses.field(default_factory=list)


TOKENIZERS = ("13a", "zh", "char", "intl", "none")
"""Of sacreBLEU, those that need no further package."""


def scored_words(config) -> str:
    """What makes words of translations for BLEU: `decode.tokenize`, or where it is empty `zh` for Chinese, by its code
    or its tokeniser (characters, jieba's words), else `13a`. ConfigError where it is unknown."""
    chinese = config.data.target == "zh" or tokenizers(config)["target"] in ("character", "jieba")
    name = config.decode.get("tokenize", "") or ("zh" if chinese else "13a")
    if name not in TOKENIZERS:
        raise ConfigError(f"decode.tokenize: '{name}' is none of {', '.join(TOKENIZERS)}")
    return name


def faults(references: Sequence[str], back: Sequence[str], config) -> list[str]:
    """What no model can make up for in its scores, a line each: a target vocabulary that does not give the references
    back as they were, and words for BLEU that are not those of their language. back: the references as the vocabulary
    writes them."""
    found, words = [], scored_words(config)
    if not config.decode.get("tokenize", "") and words == "13a" and share_of_chinese(references) > 0.5:
        found.append("BLEU by 13a takes a run of Chinese characters for one word: set --config.decode.tokenize=zh")
    changed = [f"'{text}' for '{one}'" for text, one in zip(back, references) if text.lower() != one.lower()]
    if not changed:
        return found
    scorer = _bleu(words, lowercase=True, force=True)  # without a warning of its own of words that stand apart
    best, full = (scorer.corpus_score(texts, [references]).score for texts in (back, references))
    if best < 0.99 * full:  # of references of less than four words even the full score is 0
        found.append(
            f"the dev split's references have a lower-cased BLEU of {best:.1f} when the target's vocabulary writes "
            f"them ({changed[0]}): hardly any translation can have more"
        )
    return found


def decoder(
    task: Translation, options: Search, prefix: Sequence[int] = (), *, places: bool = False
) -> Callable[[PyTree, Batch], Hypotheses]:
    """`(variables, batch) -> Hypotheses` for the sources of a batch. prefix: ids that every output begins with.
    places: also which source word each token attended to most."""
    begin = np.array(prefix, np.int32)[None]

    def decode(variables, batch: Batch) -> Hypotheses:
        source, segments = batch.tokens["source"], task.segments(batch, "source")
        given = np.repeat(begin, len(source), axis=0) if begin.size else None
        found = search(task.model, variables, source, segments, options, given)
        return found._replace(places=_places(task, variables, source, segments, found.tokens)) if places else found

    return decode


def attention_maps(
    model: nn.Module,
    variables: PyTree,
    source: Int[Array, "B S"],
    segments: Int[Array, "B S"],
    tokens: Int[Array, "B T"],
) -> list[Float[Array, "B H T S"]]:
    """What each token of an output looked at in the source as the model chose it, by layer; nothing from a fused
    kernel, which keeps its weights to itself. tokens: outputs with their </s>."""
    inputs = jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=BOS)
    arguments = (source, segments, inputs, jnp.ones_like(inputs))
    _, shown = model.apply(variables, *arguments, mutable=["attention"])
    maps = {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(dict(shown))}
    layer = lambda name: [int(number) for number in re.findall(r"\d+", name)]
    return [maps[name] for name in sorted(maps, key=layer) if "memory_attention" in name]


def _places(task: Translation, variables, source, segments, tokens: Int[Array, "B N T"]) -> Int[Array, "B N T"]:
    """The source words that have most attention, averaged over layers (Gehring et al. 2017, section 4.3) and heads."""
    batch, n, size = tokens.shape
    each = lambda x: jnp.repeat(x, n, axis=0)
    maps = attention_maps(task.model, variables, each(source), each(segments), tokens.reshape(-1, size))
    if not maps:
        raise ConfigError("decode.replace_unknown: a fused kernel keeps its attention to itself; set model.fused empty")
    mean = sum(jnp.mean(weights, axis=1) for weights in maps)
    word = (source != EOS) & (segments > 0)
    return jnp.argmax(jnp.where(each(word)[:, None], mean, -1.0), axis=-1).reshape(batch, n, size)


def check(task: Translation, options: Search, bucket: Lengths, *, places: bool = False) -> None:
    """ConfigError where the model cannot decode sources of the bucket's length, or with `places` not say where an
    output's words look: better before training than after."""

    def decode(variables, source, segments):
        found = search(task.model, variables, source, segments, options)
        return _places(task, variables, source, segments, found.tokens) if places else found

    source = jax.ShapeDtypeStruct((1, dict(bucket)["source"]), np.int32)
    jax.eval_shape(decode, shapes(task, bucket), source, source)


def outputs(found: Hypotheses) -> list[Output]:
    """The outputs of one sentence, from arrays (N, T) and (N,), the best one first; fewer than N where the search found
    fewer, but at least one."""
    kept = max(1, int(np.sum(found.scores > NEVER / 2)))
    ends = [int(np.argmax(row == EOS)) for row in found.tokens[:kept]]  # 0 where there is none: an empty output
    cut = lambda rows, n: [] if rows is None else rows[n, : ends[n]].tolist()
    return [Output(cut(found.tokens, n), float(found.scores[n]), cut(found.places, n)) for n in range(kept)]


def read_word_dictionary(path: str, *, lower: bool) -> dict[str, str]:
    """Source word, lower-cased if `lower` -> target word, from lines of both with a tab between, of equal source words
    the first; DataError names file and line."""
    words = {}
    for number, line in enumerate(raw_lines(Path(path), utf8_only=True), 1):
        fields = line.removesuffix("\r").split("\t")
        if len(fields) != 2 or not all(field.strip() for field in fields):
            raise DataError(f"{path}:{number}: not a source word, a tab and a target word")
        source, target = (field.strip() for field in fields)
        words.setdefault(source.lower() if lower else source, target)
    return words


def check_replacement(options, codecs: Mapping[str, Codec | None]) -> None:
    """ConfigError unless unknown words can be replaced as `config.decode` says, with such codecs."""
    if options.dictionary and not options.replace_unknown:
        raise ConfigError("decode.dictionary is for decode.replace_unknown = True")
    if options.replace_unknown and not all(isinstance(codec, Words) for codec in codecs.values()):
        raise ConfigError("decode.replace_unknown is for vocabularies of words; subwords spell unknown words out")


def writer(options, codecs: Mapping[str, Codec], *, lower: bool) -> Callable[[Output, str], str]:
    """`(output, source sentence) -> text`. options: `config.decode`, of which `replace_unknown` has unknown words
    replaced by their source words in the dictionary, or else by those themselves: Gehring et al. 2017, section 4.3.
    lower: sentences are lower-cased, and so are the dictionary's source words."""
    check_replacement(options, codecs)
    target = codecs["target"]
    if not options.replace_unknown:
        return lambda output, text: target.decode(output.ids)
    dictionary = read_word_dictionary(options.dictionary, lower=lower) if options.dictionary else {}

    def write(output: Output, text: str) -> str:
        words, pieces = codecs["source"].words(text), target.pieces(output.ids)
        for n, (id, place) in enumerate(zip(output.ids, output.places)):
            if id == UNKNOWN and place < len(words):
                pieces[n] = dictionary.get(words[place], words[place])
        return target.join(pieces)

    return write


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
        baseline, *others = found[name]
        for other in others:
            if other.score == baseline.score:  # sacreBLEU gives the least p there is to a difference of 0
                other.p_value = 1.0
    return found


def _bleu(tokenize: str, **options):
    from sacrebleu.metrics import BLEU  # imported on use: only runs of translation need it

    return BLEU(tokenize=tokenize, **options)


def _scorers(tokenize: str) -> dict:
    from sacrebleu.metrics import CHRF

    return {"bleu": _bleu(tokenize), "bleu_lc": _bleu(tokenize, lowercase=True), "chrf": CHRF()}
