"""OMPQ: orthogonality of layers, importances, allocation, and the lists that the paper's code published."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from published import OMPQ_MOBILENET_V2, OMPQ_RESNET18
from torch import Tensor, nn

import pyqinfer as pq
from pyqinfer import zoo
from pyqinfer.methods.ompq import OMPQ, importances, released_list, sums_of_orm
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.nodes import QuantNode, entries, quantizable_nodes
from pyqinfer.quantization.orm import collect_grams, gram, orm, orm_matrix

X = torch.tensor([[1.0, 0], [0, 1], [1, 1], [2, 0]])
Y = torch.tensor([[1.0, 2, 0], [0, 1, 1], [3, 0, 1], [1, 1, 1]])
ESTIMATES = [{"center": c, "debiased": d} for c in (True, False) for d in (True, False)]


def features(count: int = 12, width: int = 30, seed: int = 0) -> Tensor:
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.3


@pytest.mark.parametrize(("center", "expected"), [(True, 0.1548202805556581), (False, 0.7732369676646775)])
def test_orm_of_the_fixture(center: bool, expected: float) -> None:
    assert orm(gram(X), gram(Y), center=center, debiased=False) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("how", ESTIMATES)
def test_orm_is_symmetric_and_one_for_a_layer_with_itself_and_its_rotations(how: dict[str, bool]) -> None:
    a, b = features(seed=1), features(seed=2)
    rotation, _ = torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    assert orm(gram(a), gram(a), **how) == pytest.approx(1, abs=1e-12)
    assert orm(gram(a), gram(3.5 * a @ rotation), **how) == pytest.approx(1, abs=1e-12)
    assert orm(gram(a), gram(b), **how) == pytest.approx(orm(gram(b), gram(a), **how), abs=1e-15)
    assert abs(orm(gram(a), gram(b), **how)) <= 1


@pytest.mark.parametrize("debiased", [True, False])
def test_the_centred_orm_does_not_see_shifts(debiased: bool) -> None:
    a, b = features(seed=1), features(seed=2)
    expected = orm(gram(a), gram(b), debiased=debiased)
    assert orm(gram(a + 5), gram(b - 2), debiased=debiased) == pytest.approx(expected, abs=1e-11)
    assert orm(gram(a + 5), gram(b - 2), center=False, debiased=debiased) != pytest.approx(expected, abs=1e-3)


def test_orthogonal_functions_have_an_orm_of_zero() -> None:
    a, b = torch.tensor([[1.0], [-1], [0], [0]]), torch.tensor([[1.0], [1], [-1], [-1]])
    assert orm(gram(a), gram(b), debiased=False) == pytest.approx(0, abs=1e-15)


def test_gram_and_feature_forms_agree() -> None:
    a, b = features(seed=1), features(width=7, seed=2)
    a, b = a - a.mean(0), b - b.mean(0)
    by_features = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert orm(gram(a), gram(b), debiased=False) == pytest.approx(float(by_features), abs=1e-12)


def test_few_samples_of_many_features_look_alike_unless_debiased() -> None:
    """Independent Gaussian features, d = 2000: 0.986 at N = 32 and 0.939 at N = 128 where the estimate is biased."""
    for count, biased in ((32, 0.986), (128, 0.939)):
        a, b = (torch.randn(count, 2000, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
        assert orm(gram(a), gram(b), debiased=False) == pytest.approx(biased, abs=3e-3)
        assert abs(orm(gram(a), gram(b))) < 0.1


def test_a_constant_layer_has_nothing_in_common_with_others() -> None:
    assert orm_matrix([gram(torch.ones(6, 3)), gram(features(6))])[0, 1] == 0


def test_a_debiased_estimate_needs_four_samples() -> None:
    with pytest.raises(ValueError, match="at least 4 samples, got 3"):
        orm(gram(X[:3]), gram(Y[:3]))


@cache
def traced(name: str, size: int = 64) -> tuple[TracedModel, list[QuantNode]]:
    torch.manual_seed(0)
    model = getattr(zoo, name)().eval()
    inputs = torch.randn(32, 3, size, size)
    found = TracedModel(model, (inputs[:1],))
    return found, quantizable_nodes(found)


def test_orm_of_a_known_network() -> None:
    """A ResNet-18 of random weights (seed 0, then 32 images of noise): the 18 sums of centred, not debiased ORM."""
    torch.manual_seed(0)
    model, x = zoo.resnet18().eval(), torch.randn(32, 3, 64, 64)
    graph = TracedModel(model, (x[:1],))
    taps = [group[-1].tap for group in entries(quantizable_nodes(graph))]
    grams = collect_grams(graph.module, taps, (x,))
    gammas = sums_of_orm([grams[tap] for tap in taps], center=True, debiased=False)
    expected = [16.465, 16.490, 16.504, 16.500, 16.520, 16.485, 16.548, 16.525, 16.545]
    expected += [16.428, 16.531, 16.428, 16.495, 16.233, 16.261, 16.129, 16.217, 15.281]
    np.testing.assert_allclose(gammas, expected, atol=2e-3)
