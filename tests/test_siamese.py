"""The baselines of matching against NumPy, and their padding."""

import re

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from research.errors import ConfigError
from research.siamese import ARCHITECTURES, Siamese, make_model
from tests.test_esim import LENGTHS, B, L, V, dense, numpy_bilstm, sentences, variables

FIELDS = {
    "variant": "rand",
    "embedding_dim": 6,
    "hidden": 5,
    "dropout": 0.0,
    "word_masks": "pair",
    "kernel_sizes": (2, 3),
}


def model(architecture: str) -> Siamese:
    return Siamese(V, 2, architecture, **FIELDS)


def numpy_encoding(architecture: str, p, x):
    """Of one text's word vectors."""
    if architecture == "cosine":
        return x.mean(axis=0)
    if architecture == "siamese_bilstm":
        states = numpy_bilstm(p["encoding"], x)
        return np.concatenate([states.mean(axis=0), states.max(axis=0)])
    padded, maps = np.pad(x, ((2, 2), (0, 0))), []
    for h in FIELDS["kernel_sizes"]:
        w = p[f"convolution_{h}"]
        maps.append(np.max([np.einsum("hk,hkf->f", padded[i : i + h], w) for i in range(len(padded) - h + 1)], axis=0))
    return np.maximum(np.concatenate(maps) + p["bias"], 0.0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_those_of_one_text_at_a_time(architecture):
    net, (tokens, lengths) = model(architecture), sentences()
    values = variables(net)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), values["params"])
    texts = [numpy_encoding(architecture, p, p["words"]["embedding"][row[:n]]) for row, n in zip(tokens, lengths)]
    wanted = []
    for u, v in zip(texts[:B], texts[B:]):
        if architecture == "cosine":
            cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
            wanted.append([0.0, 10.0 * (p["scale"] * cosine + p["shift"])])
        else:
            hidden = np.tanh(dense(p["hidden"], np.concatenate([u, v, np.abs(u - v), u * v])))
            wanted.append(dense(p["classify"], hidden))
    np.testing.assert_allclose(net.apply(values, tokens, lengths), wanted, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_never_changes_the_output(architecture):
    net, (tokens, lengths) = model(architecture), sentences()
    values = variables(net)
    wanted = net.apply(values, tokens, lengths)
    other = np.where(np.arange(L) < LENGTHS[:, None], tokens, 7)
    wider = np.pad(other, ((0, 0), (0, 3)), constant_values=9)
    np.testing.assert_allclose(net.apply(values, other, lengths), wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(net.apply(values, wider, lengths), wanted, rtol=1e-5, atol=1e-6)
    assert np.isfinite(net.apply(values, tokens, np.zeros_like(lengths))).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_text_is_encoded_on_its_own(architecture):
    """Exchanging the texts of a pair changes neither the cosine nor |u - v| and u ∘ v."""
    net, (tokens, lengths) = model(architecture), sentences()
    values = variables(net)
    exchange = lambda x: np.concatenate(np.split(x, 2)[::-1])
    params = values["params"]
    if architecture != "cosine":
        u, v, *rest = np.split(np.asarray(params["hidden"]["kernel"]), 4)
        params = params | {"hidden": params["hidden"] | {"kernel": np.concatenate([v, u, *rest])}}
    found = net.apply({"params": params}, exchange(tokens), exchange(lengths))
    np.testing.assert_allclose(found, net.apply(values, tokens, lengths), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "classes", "message"),
    [
        ({"word_masks": "row"}, 2, r"model\.word_masks: 'row' is none of position, text, pair$"),
        ({"variant": "multichannel"}, 2, r"model\.variant: 'multichannel' is none of rand, static, non_static$"),
        ({"hidden": 0}, 2, r"model\.hidden must be at least 1"),
        ({"dropout": -0.1}, 2, r"model\.dropout is the share dropped"),
        ({"kernel_sizes": (L + 1,)}, 2, rf"model\.kernel_sizes must be window sizes from 1 to {L}, the last of"),
        ({"kernel_sizes": ()}, 2, r"model\.kernel_sizes must be"),
        ({"architecture": "cosine"}, 3, r"model\.architecture = cosine is for two classes; the corpus has 3$"),
    ],
    ids=str,
)
def test_bad_configurations(changes, classes, message):
    config = ConfigDict({"architecture": "siamese_textcnn", **FIELDS, **changes})
    with pytest.raises(ConfigError) as caught:
        make_model(config, vocab_size=V, num_classes=classes, max_length=L)
    assert re.search(message, str(caught.value)), caught.value
