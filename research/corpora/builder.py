"""The base of this repository's TFDS builders: raw files of known names in, splits of examples out."""

import abc
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from research.corpora.download import Source
from research.corpora.reading import sha256


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self):
        """Does nothing: there are no statistics of ours to fetch, and TFDS leaves a temporary folder at each try."""


class CorpusBuilder(tfds.core.GeneratorBasedBuilder):
    """A corpus read from raw files. A subclass says which files, which features, and how a file is read.

    Its docstring becomes TFDS's description. Bump VERSION whenever the examples made from the same files change:
    a prepared copy is reused while its version and its raw files' digests stand.

    Attributes (properties in a subclass where they depend on its configuration):
      files: split -> raw files of the split, in the order in which they are read. A split exists where all are there.
      common_files: raw files that belong to no split.
      optional_files: those among them that may be absent; of a split with several raw files, all or none.
      other_names: raw file -> another name under which the publisher distributes the same file.
      sources: raw file, by either name -> where to download it.
      origin: where its raw files are to be had, if they are not downloaded.
      timeout: seconds that a download waits for the server.
    """

    VERSION = tfds.core.Version("1.0.0")
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    common_files: ClassVar[tuple[str, ...]] = ()
    optional_files: ClassVar[tuple[str, ...]] = ()
    other_names: ClassVar[Mapping[str, str]] = {}
    sources: ClassVar[Mapping[str, Source]] = {}
    origin: ClassVar[str] = ""
    timeout: ClassVar[float] = 30.0

    def __init_subclass__(cls, **kwargs: Any):
        # TFDS's own register holds one builder a name, and some of ours (trec) shadow one of the catalogue.
        super().__init_subclass__(skip_registration=True, **kwargs)

    def __init__(self, *, folder: Path, downloads: Path, **kwargs: Any):
        """The user's raw files lie in `folder`, downloaded ones in `downloads`; the rest is TFDS's."""
        self.folder, self.downloads = folder, downloads
        super().__init__(**kwargs)

    @property
    def raw(self) -> dict[str, Path]:
        """Raw file -> path: those in the user's folder if there are any, else the downloaded ones if complete."""
        downloaded = self._raw_files_in(self.downloads)
        return self._raw_files_in(self.folder) or ({} if self.missing_from(downloaded) else downloaded)

    def raw_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for names in (*self.files.values(), self.common_files) for name in names))

    def _raw_files_in(self, folder: Path) -> dict[str, Path]:
        paths = {
            name: next(
                (path for path in (folder / name, folder / self.other_names.get(name, name)) if path.is_file()), None
            )
            for name in self.raw_names()
        }
        return {name: path for name, path in paths.items() if path}

    def missing_from(self, raw: Mapping[str, Path]) -> list[str]:
        """The raw files that are needed and not in `raw`."""
        begun = {name for names in self.files.values() if not raw.keys().isdisjoint(names) for name in names}
        needed = [name for name in self.raw_names() if name not in self.optional_files or name in begun]
        return [name for name in needed if name not in raw]

    def digests(self) -> dict[str, str]:
        """Raw file -> SHA-256: what a prepared copy was made from."""
        return {name: sha256(path) for name, path in self.raw.items()}

    @abc.abstractmethod
    def features(self) -> tfds.features.FeaturesDict:
        """The columns of an example."""

    @abc.abstractmethod
    def examples(self, split: str, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
        """Yields the examples of `split` from its raw files; raises DataError with file and line."""

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            description=inspect.getdoc(type(self)),
            features=self.features(),
            disable_shuffling=True,  # examples keep the order of the raw files
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        self.info.metadata["raw_files"] = self.digests()
        raw = self.raw
        splits = [split for split, names in self.files.items() if all(name in raw for name in names)]
        return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self, split):
        raw = self.raw
        return enumerate(self.examples(split, [raw[name] for name in self.files[split]]))
