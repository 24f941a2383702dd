"""What README.md and paper_notes/*.md say is true: symbols, tests, files, hyperparameters, numbers, links, equations.

`problems` gives a note's false statements, one line each; paper_notes/README.md describes the forms it reads.
"""

import ast
import functools
import importlib
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.cli import flatten, load_config
from experiments.report import fill
from experiments.tables import ours_text
from research.datasets import load, split_indices
from research.errors import ConfigError, DataError
from research.tasks import make_task
from research.text import tokenizer

ROOT = Path(__file__).resolve().parents[1]
NOTES = [ROOT / "README.md", *sorted((ROOT / "paper_notes").glob("*.md"))]
PAPER_NOTES = [path for path in NOTES if path.stem != "README"]
CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").glob("*/*.py"))
KNOWN_PAPERS = ("textcnn", "transformer", "conv_seq2seq", "esim")
HEADINGS = (
    *("Bibliography", "Status", "In one paragraph", "Questions a reader asks", "Model", "Equations"),
    *("Experiments of the paper", "Departures", "Results", "Does it hold in Chinese?", "Ablations", "Open questions"),
)
ROOMS = (
    *("research/{}.py", "paper_notes/{}.md", "configs/{}/*.py", "experiments/ablations/{}.py"),
    *("experiments/results/{}/*.json", "tests/test_{}.py"),
)

FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
SPAN = re.compile(r"`([^`\n]+)`")
SYMBOL = re.compile(r"(?:research|experiments|configs)(?:\.\w+)+")
TEST = re.compile(r"(tests/\w+\.py)::(\w+)")
PATH = re.compile(r"(?:research|experiments|configs|tests|paper_notes)/[\w./-]*")
FIELD = re.compile(r"(?:data|model|optimizer|train|decode|word_vectors)\.\w+")
FILES = ("train.txt", "train.source", "train.target")  # of a user's own corpus: no fields
CONFIG_VALUE = re.compile(r"(configs/\w+/\w+\.py): ([\w.]+) = (.+)")
RESULT_VALUE = re.compile(r"(experiments/results/\w+/\w+\.json): ([\w.]+) = (-?\d+(?:\.(\d+))?)")
CONFIG_PATH = re.compile(r"configs/\w+/\w+\.py")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
FORMULA = re.compile(r"\$\$(.+?)\$\$", re.S)


def prose(text: str) -> str:
    """`text` with fenced blocks emptied."""
    return FENCE.sub(lambda block: "\n" * block.group().count("\n"), text)


@functools.cache
def fields(root: Path, path: str) -> dict:
    return flatten(load_config(str(root / path)))


@functools.cache
def all_fields() -> frozenset[str]:
    return frozenset(name for path in CONFIGS for name in fields(ROOT, path))


def resolves(symbol: str) -> bool:
    """Whether a dotted name is a module, or an attribute below one."""
    parts = symbol.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        try:
            functools.reduce(getattr, parts[end:], found)
        except AttributeError:
            return False
        return True
    return False


def defines(path: Path, name: str) -> bool:
    """Whether a Python file has a function or class of that name at its top level."""
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    return any(getattr(node, "name", None) == name for node in tree.body)


def config_problem(root: Path, path: str, field: str, text: str) -> str | None:
    try:
        true, stated = fields(root, path)[field], ast.literal_eval(text)
    except ConfigError as error:
        return str(error)
    except KeyError:
        return f"{path} has no field {field}"
    except (ValueError, SyntaxError):
        return f"{text} is no Python literal"
    equal = stated == true and isinstance(stated, bool) == isinstance(true, bool)
    return None if equal else f"{path}: {field} is {true!r}, not {text}"


def result_problem(root: Path, path: str, field: str, text: str, decimals: str | None) -> str | None:
    try:
        value = json.loads((root / path).read_text(encoding="utf-8"))
        for part in field.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        true = f"{value:.{len(decimals or '')}f}"
    except OSError:
        return f"{path} does not exist"
    except (KeyError, IndexError, TypeError, ValueError):
        return f"{path} has no number at {field}"
    return None if true == text else f"{path}: {field} is {true}, not {text}"


def span_problem(root: Path, span: str) -> str | None:
    """What is false in one piece of inline code; None for what is true or no statement, such as `<name>`."""
    if match := CONFIG_VALUE.fullmatch(span):
        return config_problem(root, *match.groups())
    if match := RESULT_VALUE.fullmatch(span):
        return result_problem(root, *match.groups())
    if match := TEST.fullmatch(span):
        return None if defines(root / match[1], match[2]) else f"no test {span}"
    if SYMBOL.fullmatch(span):
        return None if resolves(span) else f"{span} does not resolve"
    if FIELD.fullmatch(span) and span not in FILES:
        return None if span in all_fields() else f"no configuration has a field {span}"
    if PATH.fullmatch(span):
        return None if (root / span).exists() else f"{span} does not exist"
    if PATH.match(span) and "<" not in span:
        return f"{span} has none of the forms that can be checked"
    return None


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings."""
    slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(prose(text))]
    return {f"{s}-{n}" if (n := slugs[:i].count(s)) else s for i, s in enumerate(slugs)}


def link_problem(path: Path, target: str) -> str | None:
    if re.match(r"https?://", target):
        return None
    name, _, anchor = target.partition("#")
    file = path.parent / name if name else path
    if not file.exists():
        return f"link to {target}: no such file"
    if anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
        return f"link to {target}: no such heading"
    return None


def structure_problems(path: Path, text: str) -> Iterator[str]:
    """What a paper's note lacks: headings in order, formula, symbols, code and test of every equation, both tables."""
    found = re.findall(r"^## (.+)$", prose(text), re.M)
    if found != list(HEADINGS):
        yield f"its headings are {', '.join(found)}; they must be {', '.join(HEADINGS)}"
    equations = re.split(r"^### ", prose(text).partition("\n## Equations\n")[2].partition("\n## ")[0], flags=re.M)[1:]
    if not equations:
        yield "it has no equations"
    for body in equations:
        spans = SPAN.findall(body)
        for wanted, there in (
            ("formula", FORMULA.search(body)),
            ("symbol of our code", any(SYMBOL.fullmatch(s) for s in spans)),
            ("test", any(TEST.fullmatch(s) for s in spans)),
        ):
            if not there:
                yield f"equation '{body.splitlines()[0]}' names no {wanted}"
    for kind in ("results", "ablation"):
        if f"<!-- {kind}:begin {path.stem} -->" not in text:
            yield f"it has no place for the generated {kind} table"


def problems(path: Path, root: Path = ROOT) -> list[str]:
    """The false statements of a note, each with its line where it has one."""
    text, found = path.read_text(encoding="utf-8"), []
    for number, line in enumerate(prose(text).splitlines(), 1):
        said = [span_problem(root, span) for span in SPAN.findall(line)]
        said += [link_problem(path, target) for target in LINK.findall(line)]
        found += [f"line {number}: {problem}" for problem in said if problem]
    for config in sorted(set(CONFIG_PATH.findall(text))):
        try:
            fields(root, config)
        except ConfigError as error:
            found.append(str(error))
    kinds = ("results", "ablation", "benchmark", "describe", "retrieval")
    known = {(kind, name): "" for kind in kinds for name in (*KNOWN_PAPERS, path.stem)}
    try:
        fill(text, known, path)
    except DataError as error:
        found.append(str(error))
    formulas = SPAN.sub("", prose(text))
    if formulas.count("$$") % 2:
        found.append("a formula's $$ is not closed")
    found += [f"Markdown eats a backslash of {f}" for f in FORMULA.findall(formulas) if re.search(r"\\[^\w\s]", f)]
    return found + (list(structure_problems(path, text)) if path.stem != "README" else [])


@pytest.mark.parametrize("path", NOTES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_note_is_true(path):
    assert problems(path) == []


def test_every_note_stands_in_the_index():
    linked = LINK.findall((ROOT / "paper_notes" / "README.md").read_text(encoding="utf-8"))
    assert {path.name for path in PAPER_NOTES} <= set(linked)


# The checker itself


GOOD = """# Toy: a title
## Bibliography
[here](#model), [code](../code.py), [far](https://example.org)
## Status
## In one paragraph
`research.textcnn.TextCNN._features` `tests/test_toy.py::test_it` `code` `configs/toy/run.py` `experiments/<x>.json`
## Questions a reader asks
`configs/toy/run.py: model.sizes = (3, 4)` `configs/toy/run.py: model.name = "a"`
`configs/toy/run.py: model.tuned = True`
`experiments/results/toy/run.json: metrics.test.mean = 76.3` `experiments/results/toy/run.json: values.1 = 8`
## Model
## Equations
### Equation (1)
$$a = b$$
`research.textcnn.convolve` `tests/test_toy.py::test_it`
## Experiments of the paper
## Departures
## Results
<!-- results:begin toy -->
<!-- results:end toy -->
## Does it hold in Chinese?
## Ablations
<!-- ablation:begin toy -->
<!-- ablation:end toy -->
## Open questions
"""


@pytest.fixture
def toy(tmp_path) -> Path:
    """A repository with one note, which is true."""
    for name, text in {
        "paper_notes/toy.md": GOOD,
        "code.py": "",
        "tests/test_toy.py": "def test_it():\n    def test_inner(): ...\n",
        "configs/toy/run.py": "from configs.defaults import defaults\n\n\ndef get_config():\n    config = defaults()\n"
        "    config.model, config.optimizer = dict(sizes=(3, 4), name='a', tuned=True), dict(name='sgd')\n"
        "    return config\n",
        "experiments/results/toy/run.json": '{"metrics": {"test": {"mean": 76.26}}, "values": [1, 8.4]}',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_true_note_has_no_problems(toy):
    assert problems(toy / "paper_notes/toy.md", toy) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TextCNN._features", "TextCNN._feature", "research.textcnn.TextCNN._feature does not resolve"),
        ("research.textcnn.convolve", "research.textcn.convolve", "research.textcn.convolve does not resolve"),
        ("py::test_it` `code`", "py::test_inner` `code`", "no test tests/test_toy.py::test_inner"),
        ("py::test_it` `code`", "py::test_it` `research/toy.py`", "research/toy.py does not exist"),
        ("`code`", "`model.colour`", "no configuration has a field model.colour"),
        ("`configs/toy/run.py` ", "configs/toy/fun.py ", "fun.py does not exist"),
        ("(3, 4)", "(3, 5)", "model.sizes is (3, 4), not (3, 5)"),
        ('name = "a"', "name = a", "a is no Python literal"),
        ("tuned = True", "tuned = 1", "tuned is True, not 1"),
        ("model.name", "model.names", "configs/toy/run.py has no field model.names"),
        ("run.py: model.tuned =", "run.py model.tuned", "none of the forms that can be checked"),
        ("mean = 76.3", "mean = 76.2", "metrics.test.mean is 76.3, not 76.2"),
        ("mean = 76.3", "mean = 76.30", "metrics.test.mean is 76.26, not 76.30"),
        ("values.1", "values.2", "no number at values.2"),
        ("toy/run.json: values", "toy/runs.json: values", "runs.json does not exist"),
        ("#model", "#models", "link to #models: no such heading"),
        ("../code.py", "../cod.py", "link to ../cod.py: no such file"),
        ("<!-- results:end toy -->\n", "", "without its partner"),
        ("<!-- ablation:begin toy -->\n<!-- ablation:end toy -->\n", "", "no place for the generated ablation table"),
        ("## Ablations\n", "", "they must be Bibliography"),
        ("## Status\n## In one paragraph", "## In one paragraph\n## Status", "they must be Bibliography"),
        ("`research.textcnn.convolve`", "", "equation 'Equation (1)' names no symbol of our code"),
        ("convolve` `tests/test_toy.py::test_it`", "convolve`", "equation 'Equation (1)' names no test"),
        ("$$a = b$$", "$$a = b", "$$ is not closed"),
        ("$$a = b$$", "", "equation 'Equation (1)' names no formula"),
        ("$$a = b$$", r"$$a\,b$$", "Markdown eats a backslash"),
    ],
)
def test_a_false_statement_is_found(toy, old, new, message):
    path = toy / "paper_notes/toy.md"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    found = problems(path, toy)
    assert any(message in problem for problem in found), found


# One name, six rooms; configurations


def papers() -> list[str]:
    """Every name that has a room of its own, or a module if it is a known paper's."""
    names = {path.stem for path in PAPER_NOTES} | {path.split("/")[1] for path in CONFIGS}
    names |= {path.stem for path in (ROOT / "experiments/ablations").glob("*.py")} - {"__init__"}
    names |= {path.name for path in (ROOT / "experiments/results").glob("*/")}
    return sorted(names | {name for name in KNOWN_PAPERS if (ROOT / f"research/{name}.py").exists()})


@pytest.mark.parametrize("paper", papers())
@pytest.mark.parametrize("room", ROOMS)
def test_a_paper_has_its_six_rooms(paper, room):
    assert list(ROOT.glob(room.format(paper))), f"{room.format(paper)} is missing"


@pytest.mark.parametrize("path", CONFIGS)
def test_a_configuration_says_how_to_run_it_and_what_the_paper_reports(path):
    doc = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or ""
    command = re.search(r"^Command: +(.+)$", doc.replace("\\\n", " "), re.M)
    words = command[1].split() if command else []
    assert words[:6] == ["python", "-m", "experiments.run", "--config", path, "--workdir"]
    assert all(word.startswith("--config.") for word in words[7:])
    paper = runpy.run_path(str(ROOT / path)).get("PAPER", {})
    stated = re.search(r"^Paper: +(?:(\d+\.\d+)|none: \w)", doc, re.M)
    assert stated, "what the paper reports, or 'none: ' and why"
    number = next((paper[metric] for metric in ("accuracy", "bleu") if metric in paper), None)
    assert (float(stated[1]) if stated[1] else None) == number
    assert re.search(r"^Needs: +\S", doc, re.M)
    assert fields(ROOT, path)["paper"] == path.split("/")[1]
    result = ROOT / "experiments/results" / path.removeprefix("configs/").replace(".py", ".json")
    ours = f"Ours:      {ours_text(json.loads(result.read_text()))}" if result.exists() else "Ours:      not measured"
    assert re.search(rf"^{re.escape(ours)}$", re.sub(r"\n {11}(?=\S)", " ", doc), re.M)  # long lines go on, indented


# Tables of textcnn.md


def table(heading: str, number: int = 0) -> list[list[str]]:
    """The rows of the table at place `number` under a heading of textcnn.md, cells as text."""
    text = prose((ROOT / "paper_notes/textcnn.md").read_text(encoding="utf-8"))
    body = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.M)[1]
    body = re.split(r"^#", body, flags=re.M)[0]
    block = re.findall(r"(?:^\|.*\n)+", body, re.M)[number]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]


def test_the_layers_of_textcnn():
    rows = {row[0]: (re.findall(r"`(\w+)`", row[3]), int(row[4].replace(",", ""))) for row in table("Layers")}
    config = load_config(str(ROOT / "configs/textcnn/mr.py"))
    task = make_task(config, sizes={"text": rows["word vectors"][1] // config.model.embedding_dim}, num_classes=2)
    params = jax.eval_shape(lambda: task.init(jax.random.key(0), (("text", config.data.buckets[-1]),)))["params"]
    true: dict[str, int] = {}
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        name = re.sub("_(kernel|bias)$", "", path[0].key)
        true[name] = true.get(name, 0) + int(np.prod(x.shape))
    assert {names[0]: stated for names, stated in rows.values() if names} == true
    assert rows["all"][1] == sum(true.values())


def test_the_papers_scores_are_those_of_the_configurations():
    data = ("mr", "sst1", "sst2", "subj", "trec", "cr", "mpqa")
    scores = {(row[0], name): float(cell) for row in table("Scores") for name, cell in zip(data, row[1:])}
    for path in CONFIGS:
        paper = runpy.run_path(str(ROOT / path)).get("PAPER")
        if path.startswith("configs/textcnn/") and paper:
            model = paper["where"].removeprefix("Table 2, ")
            assert scores[model, fields(ROOT, path)["data.corpus"]] == paper["accuracy"]


def counts(run: str, manual_dir: Path, data_dir: Path) -> tuple[int, str, int, int, int]:
    """Classes, mean length, texts, distinct tokens, and those of the largest training part."""
    config = load_config(str(ROOT / f"configs/textcnn/{run}.py"))
    corpus = load(config, data_dir=data_dir, manual_dir=manual_dir)
    split = tokenizer(config.data.tokenizer, config.data.lower)
    texts = [split(text) for columns in corpus.splits.values() for text in columns["text"]]
    sizes = {name: len(columns["text"]) for name, columns in corpus.splits.items()}
    parts = [split_indices(sizes, config, fold)["train"] for fold in range(config.folds)]
    distinct = lambda some: len({token for text in some for token in text})
    largest = max(distinct(texts[i] for i in part) for part in parts)
    mean = f"{np.mean([len(text) for text in texts]):.1f}"
    return len(corpus.label_names), mean, len(texts), distinct(texts), largest


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("prepared")


@pytest.mark.parametrize("name", ["MR", "SST-2", "TREC"])
def test_our_counts_of_english_corpora(corpora, prepared, name):
    row = next(row for row in table("Data") if row[0] == name)
    classes, mean, number, distinct, largest = counts(name.lower().replace("-", ""), corpora, prepared)
    assert row[8:] == [str(classes), mean, str(number), str(distinct)]
    if name == "MR":  # its vocabulary is that of the table of layers
        assert table("Layers")[1][3] == f"`embedding` {largest + 2:,} × 300"
    if name == "TREC":  # the paper's count
        assert str(distinct) == row[5]


@pytest.mark.parametrize("number", range(4))
def test_our_counts_of_chinese_corpora(corpora, prepared, number):
    row = table("Does it hold in Chinese?")[number]
    run = re.match(r"\[(\w+)\]", row[0])[1]
    _, mean, texts, distinct, largest = counts(run, corpora, prepared)
    assert row[1:] == [mean, str(texts), str(distinct), str(largest)]
