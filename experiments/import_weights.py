"""Makes a workdir of weights that others trained with PyTorch, for python -m experiments.predict to apply.

--from fairseq-fconv: a checkpoint of fairseq's model fconv (the ConvS2S of its authors) and the dictionaries that lie
beside it, of the source and of the target. All sizes are read off the arrays' shapes. What shapes do not show is taken
to be fairseq's default: every layer has a residual connection from its own input and sums are scaled by the square
root of 0.5. A checkpoint with its training's arguments is refused where those say otherwise; one without them gives
wrong translations where its shapes are the same.

Lines to translate must look as the training text of the checkpoint did: tokenised, and split into its subwords, such
as "un@@ known words". What predict prints are such tokens with blanks between them; for BPE, sed 's/@@ //g' joins
them to words, and a detokeniser makes text of those.

--from esim-pytorch: a checkpoint of coetaur0/ESIM (best.pth.tar or esim_*.pth.tar) and the worddict.pkl that its
preprocessing wrote. All sizes are read off the arrays' shapes. Texts stand between _BOS_ and _EOS_ if the worddict has
them, as by default, and are lower-cased if no word of it has a capital. Class names are in neither file: three classes
are called entailment, neutral and contradiction, in the order of all its configurations, others 0, 1, ...; where that
is wrong, put the names into label_names of the workdir's config.json.

Pairs to label must look as the training text did, words with blanks between them: those of SNLI's parses, without
their brackets. Logits are those of PyTorch but for one case: its masked softmax lets padding into the sum and divides
it out again, so that in a batch with padding a word all of whose scores are below about -15 is aligned wrongly, and the
more so the lower they are. Here padding changes nothing.

The checkpoint may also be the model's state dict alone. Files are read without running what they may hold beside
weights and words: one that needs such code is refused.
"""

import argparse
import dataclasses
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from experiments import cli
from experiments.environment import environment
from experiments.files import write_json
from experiments.formats.esim_pytorch import esim_pytorch
from experiments.formats.fairseq_fconv import fairseq_fconv
from experiments.formats.state import Imported
from experiments.workdir import nested
from research.checkpoints import save_arrays
from research.codecs import digest, save_codecs
from research.corpora.reading import sha256
from research.errors import ConfigError, DataError
from research.tasks import make_task

EXAMPLES = """examples:
  python -m experiments.import_weights --from fairseq-fconv --checkpoint model.pt --dicts dict.en.txt dict.fr.txt \\
      --workdir runs/fairseq_en_fr
  python -m experiments.predict --workdir runs/fairseq_en_fr --input newstest2014.bpe.en
  python -m experiments.import_weights --from esim-pytorch --checkpoint best.pth.tar --worddict worddict.pkl \\
      --workdir runs/esim_pytorch
  python -m experiments.predict --workdir runs/esim_pytorch --input pairs.txt"""


def write_workdir(workdir: Path, imported: Imported, checkpoint: Path, command: str) -> int:
    """Writes what `experiments.predict` needs, `result.json` last, and gives the number of parameters; DataError where
    the model cannot be built."""
    config, variables, labels = imported.config, {"params": imported.params}, imported.label_names
    sizes = {role: len(codec) for role, codec in imported.codecs.items()}
    try:
        make_task(config, sizes=sizes, num_classes=len(labels))
    except ConfigError as error:  # of fields that come from the checkpoint
        raise DataError(f"{checkpoint}: our model cannot be of this shape: {error}") from error
    folder = workdir / "replica_00"
    folder.mkdir(parents=True)
    save_codecs(imported.codecs, folder, config)
    save_arrays(folder / "best", variables, {"model": nested(config)["model"]})
    data = {"corpus": config.data.corpus, "version": "", "digest": sha256(checkpoint), "label_names": list(labels)}
    record = {"overrides": [], **data, "word_vectors": "", "vocabulary": sizes, "vocabularies": digest(imported.codecs)}
    write_json(workdir / "config.json", {**record, "config": nested(config)})
    params = sum(x.size for x in jax.tree.leaves(variables))
    result = {"paper": config.paper, "config": None, "overrides": [], "command": command, "metrics": {}}
    result |= {"signatures": {}, "params": params, "steps": 0, "examples_per_second": None, "seconds": 0.0}
    result |= {"data": {**data, "examples": {}, "vocabulary": sizes, "long": 0}, "environment": environment()}
    write_json(workdir / "result.json", result)
    return params


@dataclasses.dataclass(frozen=True)
class Format:
    """flag: of the files that a checkpoint of this format needs beside it. read: checkpoint and flag's value to
    `Imported`."""

    flag: str
    read: Callable[[Path, Path | Sequence[Path]], Imported]


FORMATS = {"fairseq-fconv": Format("dicts", fairseq_fconv), "esim-pytorch": Format("worddict", esim_pytorch)}


def read_checkpoint(flags: argparse.Namespace) -> Imported:
    """As the flags say; ConfigError where that of the format is missing, or that of another is there."""
    own = FORMATS[flags.format]
    for other in FORMATS.values():
        if other is not own and getattr(flags, other.flag) is not None:
            raise ConfigError(f"--{other.flag}: not of --from {flags.format}, which takes --{own.flag}; leave it out")
    if (files := getattr(flags, own.flag)) is None:
        raise ConfigError(f"--{own.flag}: --from {flags.format} needs it (--help explains the flags)")
    return own.read(flags.checkpoint, files)


def main(argv: Sequence[str]) -> None:
    parser = cli.parser("import_weights", __doc__, EXAMPLES)
    parser.add_argument("--from", dest="format", required=True, choices=FORMATS, help="whose checkpoint")
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="FILE", help="file that torch.save wrote")
    parser.add_argument(
        "--dicts", type=Path, nargs=2, metavar=("SRC", "TGT"), help="fairseq-fconv: dictionaries, source's first"
    )
    parser.add_argument("--worddict", type=Path, metavar="FILE", help="esim-pytorch: pickled words of the embedding")
    parser.add_argument("--workdir", required=True, type=Path, help="folder to make; it must be new or empty")
    flags = parser.parse_args(argv)
    if flags.workdir.exists() and not (flags.workdir.is_dir() and not any(flags.workdir.iterdir())):
        raise ConfigError(f"--workdir {flags.workdir}: is not an empty folder; name a new one")
    imported = read_checkpoint(flags)
    command = shlex.join(["python", "-m", "experiments.import_weights", *argv])
    params = write_workdir(flags.workdir, imported, flags.checkpoint, command)
    sizes = ", ".join(f"{len(codec):,} entries of the {role}" for role, codec in imported.codecs.items())
    print(f"{params:,} parameters; {sizes}")
    print(f"now: {shlex.join(['python', '-m', 'experiments.predict', '--workdir', str(flags.workdir)])}")


if __name__ == "__main__":
    cli.main(main)
