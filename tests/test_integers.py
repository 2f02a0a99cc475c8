"""Integers and truth values that are computed in a run: masks, positions, indices, with open batches and lengths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import pyqinfer as pq

_VOCABULARY = 40


class Encoder(nn.Module):
    """Tokens and a mask through one layer of attention, with the pieces that Hugging Face's encoders have."""

    def __init__(self, mask: Callable[[Tensor], Tensor], positions: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(_VOCABULARY, 8), nn.Embedding(40, 8)
        self.project = nn.Linear(8, 24)
        self.mask, self.positions = mask, positions

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.tokens(ids)
        if self.positions is not None:
            x = x + self.places(self.positions(ids))
        query, key, value = self.project(x).unflatten(-1, (3, 2, 4)).movedim(2, 0).transpose(2, 3)
        y = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=self.mask(mask))
        return y.transpose(1, 2).flatten(2)


def _padding(mask: Tensor) -> Tensor:
    return mask.to(torch.bool)[:, None, None, :]


def _by_index(mask: Tensor) -> Tensor:
    """How transformers 5 writes it: indices that take every place."""
    n, length = mask.shape
    batch, keys = torch.arange(n)[:, None, None, None], torch.arange(length)[None, None, None, :]
    queries = torch.arange(length)[None, None, :, None]
    return ((queries >= 0) & mask.to(torch.bool)[batch, keys]).expand(n, -1, length, length)


def _causal(mask: Tensor) -> Tensor:
    length = mask.shape[1]
    return _padding(mask) & (torch.arange(length)[:, None] >= torch.arange(length)[None, :])


def _additive(mask: Tensor) -> Tensor:
    return (1.0 - mask[:, None, None, :].to(torch.float32)) * torch.finfo(torch.float32).min


def _chosen(mask: Tensor) -> Tensor:
    return torch.where(_padding(mask), 0.0, torch.finfo(torch.float32).min)


def _filled_in(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape[0], 1, 1, mask.shape[1]).masked_fill(~_padding(mask), -1e30)


def _after_padding(ids: Tensor) -> Tensor:
    """RoBERTa's positions: those of padding are 1, the others count from 2."""
    kept = ids.ne(1).int()
    return (torch.cumsum(kept, dim=1).type_as(kept) * kept).long() + 1


def _tokens(n: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, _VOCABULARY, (n, length), generator=generator)
    mask = torch.ones(n, length, dtype=torch.int64)
    for row in range(n):
        mask[row, int(torch.randint(1, length + 1, (1,), generator=generator)) :] = 0
    return ids, mask


def _agrees(model: nn.Module, session: pq.Session, *inputs: Tensor, tolerance: float = 2e-5) -> None:
    with torch.no_grad():
        expected = model(*inputs)
    names = list(session.model.inputs)
    got = session.run(dict(zip(names, inputs, strict=True)))["output"]
    assert torch.allclose(got, expected, atol=tolerance), (got - expected).abs().max()


@pytest.mark.parametrize("mask", [_padding, _by_index, _causal, _additive, _chosen, _filled_in])
def test_a_mask_hides_positions_for_any_batch(mask: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(1)
    model = Encoder(mask).eval()
    converted = pq.convert(model, example_inputs=_tokens(2, 7))
    assert {shape[0] for shape in converted.inputs.values()} == {"N"}, "the batch is open, and it is one"
    session = pq.Session(converted, threads=1)
    for n in (1, 2, 5):
        _agrees(model, session, *_tokens(n, 7, seed=n))


def test_a_row_that_sees_nothing_is_0_as_in_torch() -> None:
    model = Encoder(_padding).eval()
    ids, mask = _tokens(2, 6)
    session = pq.Session(pq.convert(model, example_inputs=(ids, mask)), threads=1)
    mask[1] = 0
    _agrees(model, session, ids, mask)


def test_positions_are_counted_and_looked_up() -> None:
    model = Encoder(_padding, _after_padding).eval()
    session = pq.Session(pq.convert(model, example_inputs=_tokens(2, 9)), threads=1)
    ids, mask = _tokens(3, 9, seed=4)
    ids[1, 4:] = 1
    _agrees(model, session, ids, mask)


def test_a_computed_index_outside_its_table_is_refused_with_the_layer() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 4)

        def forward(self, ids: Tensor) -> Tensor:
            return self.table(ids + 5)

    session = pq.Session(pq.convert(Shifted().eval(), example_inputs=(torch.tensor([[0, 4]]),)), threads=1)
    for index in (5, -6, 2**31 - 3):
        with pytest.raises(ValueError, match=r"layer 'table'.*outside"):
            session.run({"ids": np.array([[0, index]], np.int32)})


def test_truth_values_are_an_input() -> None:
    class Kept(nn.Module):
        def forward(self, x: Tensor, keep: Tensor) -> Tensor:
            return torch.where(keep, x, -x)

    x, keep = torch.randn(2, 5), torch.tensor([[True, False, True, True, False]] * 2)
    session = pq.Session(pq.convert(Kept().eval(), example_inputs=(x, keep)), threads=1)
    for given_keep in (keep, keep.numpy(), keep.to(torch.int64)):
        got = session.run({"x": x, "keep": given_keep})["output"]
        assert torch.equal(torch.as_tensor(got), torch.where(keep, x, -x))


def test_columns_of_categories_are_shifted_into_one_table() -> None:
    class Columns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(30, 4)
            self.register_buffer("first", torch.tensor([0, 10, 20]))

        def forward(self, columns: Tensor) -> Tensor:
            return self.table(columns + self.first).flatten(1)

    model = Columns().eval()
    session = pq.Session(pq.convert(model, example_inputs=(torch.randint(0, 10, (2, 3)),)), threads=1)
    _agrees(model, session, torch.randint(0, 10, (7, 3)), tolerance=0.0)


def test_a_batch_inside_another_dimension_is_taken_out_again() -> None:
    class Windows(nn.Module):
        """Windows of an image as a batch of their own, as Swin has them."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            n = x.shape[0]
            windows = x.reshape(n, 2, 4, 2, 4, 3).transpose(2, 3).reshape(n * 4, 16, 3)
            y = self.linear(windows).relu()
            return y.reshape(n, 2, 2, 4, 4, 3).transpose(2, 3).reshape(n, 8, 8, 3)

    model = Windows().eval()
    converted = pq.convert(model, example_inputs=(torch.randn(2, 8, 8, 3),))
    assert converted.inputs["x"][0] == "N"
    _agrees(model, pq.Session(converted, threads=1), torch.randn(5, 8, 8, 3))


_TERMS = st.sampled_from(
    ["a + b", "a - b", "a * b", "a // 3", "a % 5", "torch.maximum(a, b)", "torch.minimum(a, b)", "(a > b).int()", "a.ne(b).long()"]
)


@settings(max_examples=25, deadline=None)
@given(st.lists(_TERMS, min_size=1, max_size=4), st.integers(0, 2**16))
def test_random_arithmetic_of_integers_is_exact(terms: list[str], seed: int) -> None:
    class Terms(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            for term in terms:
                a = eval(term, {"torch": torch, "a": a, "b": b})
            return (a * 2).to(torch.float32) + 0.5

    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(-50, 50, (2, 3), generator=generator) for _ in range(2))
    model = Terms().eval()
    session = pq.Session(pq.convert(model, example_inputs=(a, b), check=False), threads=1)
    _agrees(model, session, a, b, tolerance=0.0)
