"""Bits per layer: parsing, validation, patterns, and the JSON file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyqinfer.bits import BitConfig, LayerBits, match_layers, parse_bits


@pytest.mark.parametrize(
    ("text", "weight", "act", "again"),
    [
        ("8/8", 8, 8, "8/8"),
        ("4/8", 4, 8, "4/8"),
        ("2/2", 2, 2, "2/2"),
        ("t/8", "ternary", 8, "t/8"),
        ("ternary/4", "ternary", 4, "t/4"),
        (" 4 / 32 ", 4, 32, "4/32"),
        ("float", 32, 32, "float"),
        ("32/32", 32, 32, "float"),
    ],
)
def test_text_to_bits_and_back(text: str, weight: int | str, act: int, again: str) -> None:
    bits = parse_bits(text)
    assert (bits.weight, bits.act, str(bits)) == (weight, act, again)


@pytest.mark.parametrize("text", ["", "8", "8/", "/8", "1/8", "9/8", "8/1", "8/9", "8/16", "8/t", "a/b", "32/8", "-4/8", "4/8/2", "4.5/8"])
def test_other_texts_are_refused_with_the_text_in_the_message(text: str) -> None:
    with pytest.raises(ValueError, match="bits") as error:
        parse_bits(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [("8/8", (-127, 127)), ("4/5", (-7, 7)), ("2/2", (-1, 1)), ("t/8", (-1, 1))],
)
def test_weight_ranges_are_symmetric_and_narrow(bits: str, expected: tuple[int, int]) -> None:
    assert parse_bits(bits).weight_range == expected


def test_float_weights_have_no_range() -> None:
    with pytest.raises(ValueError, match="no code range"):
        _ = LayerBits(32, 32).weight_range


LAYERS = BitConfig({"conv1": "8/8", "layer1.0.conv1": "4/4", "layer1.0.conv2": "4/4", "layer2.0.conv1": "4/4", "fc": "8/8"})


@pytest.mark.parametrize(
    ("keep", "changed"),
    [
        ({"fc": "float"}, {"fc": "float"}),
        ({"layer1.*": "8/8"}, {"layer1.0.conv1": "8/8", "layer1.0.conv2": "8/8"}),
        ({"*": "t/8"}, dict.fromkeys(LAYERS, "t/8")),
        ({"*.conv1": "2/4", "layer2.*": "6/6"}, {"layer1.0.conv1": "2/4", "layer2.0.conv1": "6/6"}),
        ({}, {}),
    ],
)
def test_override_by_name_or_pattern_where_later_ones_win(keep: dict[str, str], changed: dict[str, str]) -> None:
    result = LAYERS.override(keep)
    assert {k: str(v) for k, v in result.items()} == {**{k: str(v) for k, v in LAYERS.items()}, **changed}
    assert list(result) == list(LAYERS)


def test_a_pattern_without_a_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no layer matches 'head\.\*'.*conv1"):
        LAYERS.override({"head.*": "float"})
    with pytest.raises(ValueError, match=r"keep\['fc'\].*'9/9'"):
        LAYERS.override({"fc": "9/9"})
    assert match_layers("layer?.0.conv1", LAYERS) == ["layer1.0.conv1", "layer2.0.conv1"]


def test_file_round_trip_keeps_order_and_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "bits.json"
    config = BitConfig({"b": "t/8", "a": "float", "c.d": "4/32"})
    config.save(path)
    assert BitConfig.load(path) == config
    assert list(BitConfig.load(path)) == ["b", "a", "c.d"]
    assert '"b": "t/8"' in path.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bits.json"),
        ("[]", "expected a JSON object"),
        ('{"layers": {}}', "expected a JSON object"),
        ('{"format": "pyqinfer-bits", "version": 2, "layers": {}}', "version 2, expected 1"),
        ('{"format": "pyqinfer-bits", "version": 1, "layers": []}', '"layers" must map'),
        ('{"format": "pyqinfer-bits", "version": 1, "layers": {"fc": 8}}', '"layers" must map'),
        ('{"format": "pyqinfer-bits", "version": 1, "layers": {"fc": "8/99"}}', "layer 'fc'.*'8/99'"),
        ('{"format": "pyqinfer-bits", "version": 1, "layers": {"fc": "8/8", "fc": "4/4"}}', "'fc' appears twice"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bits.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        BitConfig.load(path)
    assert "bits.json" in str(error.value)
