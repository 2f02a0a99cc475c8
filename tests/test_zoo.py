"""The zoo: torchvision's names and sizes, data sets split by font and reproducible, and the checkpoint that comes with them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyqinfer import zoo
from pyqinfer.zoo import fonts

torch = pytest.importorskip("torch")
needs_fonts = pytest.mark.skipif(bool(zoo.missing_packages()), reason=f"apt-get install {' '.join(zoo.missing_packages())}")


def macs(model: torch.nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of conv and linear layers, counted from the shapes that really occur."""
    total = 0

    def count(module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    layers = [m for m in model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        model.eval()(torch.zeros(shape))
    for hook in hooks:
        hook.remove()
    return total


# Totals as counted from torchvision's topologies (BOPs at 32x32 bits are 1024 times the MACs).
IMAGENET_TOTALS = [
    # The builder, and the number of conv and fc layers, of MACs at 224x224, of parameters, and of weights of these layers.
    ("resnet18", 21, 1_814_073_344, 11_689_512, 11_678_912),
    ("resnet50", 54, 4_089_184_256, 25_557_032, 25_502_912),
    ("mobilenet_v2", 53, 300_774_272, 3_504_872, 3_469_760),
]


@pytest.mark.parametrize(("name", "layers", "mac_count", "parameters", "weights"), IMAGENET_TOTALS)
def test_sizes_are_those_of_torchvision(name: str, layers: int, mac_count: int, parameters: int, weights: int) -> None:
    model = getattr(zoo, name)()
    weighted = [m for m in model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(weighted) == layers
    assert sum(m.weight.numel() for m in weighted) == weights
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert macs(model, (1, 3, 224, 224)) == mac_count


# ResNet-20 has a 3x3 stem, three stages of three blocks, and 1x1 projections in layer2.0 and layer3.0; here for 26 classes, 1x28x28.
# In the small MobileNetV2 of half width the stem and the first two stages keep the resolution, and three stages halve it.
SMALL_TOTALS = [
    ("resnet20", 273_226, 31_022_976),
    ("resnet20_wide", 1_086_074, 123_862_784),
    ("mobilenet_v2_small", 720_698, 17_473_280),
]


@pytest.mark.parametrize(("name", "parameters", "mac_count"), SMALL_TOTALS)
def test_sizes_of_the_small_image_networks(name: str, parameters: int, mac_count: int) -> None:
    model = getattr(zoo, name)(num_classes=26, in_channels=1)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert macs(model, (1, 1, 28, 28)) == mac_count


STATE_DICT_SIZES = [("resnet18", 122), ("resnet50", 320), ("mobilenet_v2", 314)]
TORCHVISION_KEYS = [
    ("resnet18", "conv1.weight", (64, 3, 7, 7)),
    ("resnet18", "bn1.running_mean", (64,)),
    ("resnet18", "layer1.0.conv1.weight", (64, 64, 3, 3)),
    ("resnet18", "layer1.1.bn2.weight", (64,)),
    ("resnet18", "layer2.0.downsample.0.weight", (128, 64, 1, 1)),
    ("resnet18", "layer2.0.downsample.1.running_var", (128,)),
    ("resnet18", "layer4.1.conv2.weight", (512, 512, 3, 3)),
    ("resnet18", "fc.weight", (1000, 512)),
    ("resnet18", "fc.bias", (1000,)),
    ("resnet50", "layer1.0.downsample.0.weight", (256, 64, 1, 1)),
    ("resnet50", "layer1.0.conv3.weight", (256, 64, 1, 1)),
    ("resnet50", "layer3.5.conv2.weight", (256, 256, 3, 3)),
    ("resnet50", "layer4.2.bn3.num_batches_tracked", ()),
    ("resnet50", "fc.weight", (1000, 2048)),
    ("mobilenet_v2", "features.0.0.weight", (32, 3, 3, 3)),
    ("mobilenet_v2", "features.0.1.weight", (32,)),
    ("mobilenet_v2", "features.1.conv.0.0.weight", (32, 1, 3, 3)),
    ("mobilenet_v2", "features.1.conv.1.weight", (16, 32, 1, 1)),
    ("mobilenet_v2", "features.1.conv.2.running_mean", (16,)),
    ("mobilenet_v2", "features.2.conv.0.0.weight", (96, 16, 1, 1)),
    ("mobilenet_v2", "features.2.conv.1.0.weight", (96, 1, 3, 3)),
    ("mobilenet_v2", "features.17.conv.2.weight", (320, 960, 1, 1)),
    ("mobilenet_v2", "features.18.0.weight", (1280, 320, 1, 1)),
    ("mobilenet_v2", "classifier.1.weight", (1000, 1280)),
    ("resnet20", "layer2.0.downsample.0.weight", (32, 16, 1, 1)),
    ("resnet20", "layer3.2.conv2.weight", (64, 64, 3, 3)),
]


@pytest.mark.parametrize(("name", "size"), STATE_DICT_SIZES)
def test_state_dict_has_as_many_entries_as_torchvision(name: str, size: int) -> None:
    assert len(getattr(zoo, name)().state_dict()) == size


@pytest.mark.parametrize(("name", "key", "shape"), TORCHVISION_KEYS)
def test_state_dict_entry_has_torchvisions_name_and_shape(name: str, key: str, shape: tuple[int, ...]) -> None:
    assert tuple(getattr(zoo, name)().state_dict()[key].shape) == shape


def test_resnet50_strides_in_the_3x3_convolution() -> None:
    block = zoo.resnet50().layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


def test_a_vision_transformer_of_the_base_size_has_torchvisions_parameters() -> None:
    model = zoo.vit_small(width=768, heads=12)
    entries = model.state_dict()
    assert (sum(p.numel() for p in model.parameters()), len(entries)) == (86_567_656, 152)
    block = "encoder.layers.encoder_layer_11"
    names = {"class_token", "conv_proj.weight", "encoder.pos_embedding", "encoder.ln.weight", "heads.head.weight"}
    names |= {f"{block}.{n}" for n in ("ln_1.weight", "self_attention.in_proj_weight", "self_attention.out_proj.bias", "ln_2.bias")}
    names |= {f"{block}.mlp.0.weight", f"{block}.mlp.3.bias"}
    assert names <= set(entries)


def test_the_transformers_attention_is_torchs() -> None:
    attention = zoo.vit_small(8, 16, 8, 1, 48, 4).encoder.layers[0].self_attention
    expected = torch.nn.MultiheadAttention(48, 4, batch_first=True)
    expected.load_state_dict(attention.state_dict())
    x = torch.randn(2, 17, 48)
    torch.testing.assert_close(attention(x), expected(x, x, x)[0])


@pytest.mark.parametrize(("upsampling", "parameters"), [("bilinear", 29_930), ("nearest", 29_930), ("transposed", 29_634)])
def test_a_unets_mask_is_as_large_as_the_image(upsampling: str, parameters: int) -> None:
    model = zoo.unet(width=8, depth=2, upsampling=upsampling)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.eval()(torch.zeros(2, 3, 20, 28)).shape == (2, 2, 20, 28)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "resnet20"])
def test_randomized_batchnorm_keeps_activations_in_a_range_worth_quantizing(name: str) -> None:
    model = zoo.randomize_batchnorm(getattr(zoo, name)(), seed=3)
    spreads: dict[str, float] = {}
    for key, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda _m, _i, y, key=key: spreads.update({key: y.std().item()}))
    with torch.inference_mode():
        logits = model(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(9)))
    assert not model.training
    assert len(spreads) == sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    assert all(0.05 < spread < 5 for spread in spreads.values()), spreads
    assert logits.isfinite().all()
    assert logits.std() > 0.05


def test_randomized_batchnorm_depends_on_the_seed_only() -> None:
    states = [zoo.randomize_batchnorm(zoo.resnet20(), seed).state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["conv1.weight"], states[2]["conv1.weight"])


def test_importing_the_package_and_the_zoo_loads_no_torch() -> None:
    code = "import sys, pyqinfer, pyqinfer.zoo; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- data -----------------------------------------------------------------------------------------------------------


def digest(arrays: tuple[np.ndarray, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


@needs_fonts
def test_no_font_and_no_family_is_in_two_splits() -> None:
    files = {split: {path.stem for path in fonts.faces(split)} for split in fonts.SPLITS}
    names = {split: {f.name for f in fonts.FAMILIES if f.split == split} for split in fonts.SPLITS}
    for one in fonts.SPLITS:
        assert files[one]
        for other in fonts.SPLITS:
            if other != one:
                assert not files[one] & files[other]
                assert not names[one] & names[other]


def test_no_two_families_claim_the_same_file() -> None:
    stems = ["DejaVuSansMono-Bold", "DejaVuSans-Bold", "DejaVuSansCondensed", "LinBiolinum_R", "RobotoCondensed-Light"]
    for stem in stems:
        owners = [f for f in fonts.FAMILIES if stem.startswith(f.prefix) and not stem.startswith(f.without or ("/",))]
        assert len(owners) == 1, (stem, owners)


@needs_fonts
def test_glyphs_do_not_depend_on_the_order_in_which_fonts_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = digest(zoo.glyphs("validation", 12, seed=4, cache_dir=tmp_path / "a"))
    listed = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: reversed(list(listed(self, pattern))))
    assert digest(zoo.glyphs("validation", 12, seed=4, cache_dir=tmp_path / "b")) == first


@needs_fonts
def test_glyphs_from_the_cache_equal_those_drawn(tmp_path: Path) -> None:
    drawn = digest(zoo.glyphs("validation", 12, cache_dir=tmp_path))
    (stored,) = tmp_path.iterdir()
    assert digest(zoo.glyphs("validation", 12, cache_dir=tmp_path)) == drawn
    stored.write_bytes(stored.read_bytes()[:1000])
    assert digest(zoo.glyphs("validation", 12, cache_dir=tmp_path)) == drawn


@needs_fonts
def test_glyphs_differ_by_seed_but_keep_their_labels_across_sizes(tmp_path: Path) -> None:
    small, large, other = (zoo.glyphs("validation", s, seed=r, cache_dir=tmp_path) for s, r in ((12, 0), (20, 0), (12, 1)))
    assert np.array_equal(small[1], large[1])
    assert not np.array_equal(small[0], other[0])


@needs_fonts
def test_glyph_test_split_is_large_balanced_and_normalized() -> None:
    images, labels = zoo.glyphs("test", 28)
    assert images.shape == (len(labels), 1, 28, 28)
    assert (images.dtype, labels.dtype) == (np.float32, np.int64)
    assert len(labels) >= 10_000
    assert np.unique(np.bincount(labels, minlength=26)).size == 1
    assert images.min() >= -1
    assert images.max() <= 1
    assert images.std(axis=(1, 2, 3)).min() > 0.01


def test_missing_fonts_are_named_by_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYQINFER_FONT_PATH", str(tmp_path))
    with pytest.raises(zoo.MissingFontsError, match=r"apt-get install fonts-cantarell .*fonts-roboto-unhinted"):
        zoo.glyphs("test", 28, cache_dir=tmp_path)


BAD_ARGUMENTS = [("testing", 28, "split 'testing'"), ("test", 4, "size 4")]


@pytest.mark.parametrize(("split", "size", "message"), BAD_ARGUMENTS)
def test_glyphs_refuse_what_they_cannot_draw(split: str, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.glyphs(split, size)


def test_digits_splits_share_no_image() -> None:
    pytest.importorskip("sklearn")
    splits = {name: zoo.digits(name) for name in ("train", "validation", "test")}
    assert [len(labels) for _, labels in splits.values()] == [1078, 360, 359]
    images = np.concatenate([x for x, _ in splits.values()])
    assert images.shape == (1797, 1, 8, 8)
    assert (images.min(), images.max()) == (-1, 1)
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == 1797


# ---- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "stem", "last"), [(0.5, 16, 1280), (1.0, 32, 1280), (1.4, 48, 1792)])
def test_channels_of_a_narrow_mobilenet_are_multiples_of_eight(width: float, stem: int, last: int) -> None:
    convs = [m for m in zoo.mobilenet_v2_small(width=width).modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convs) == 52
    assert all(conv.out_channels % 8 == 0 for conv in convs)
    assert (convs[0].out_channels, convs[-1].out_channels) == (stem, last)


def test_unknown_checkpoint_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="resnet20_glyphs"):
        zoo.load_trained("resnet21")


def test_checkpoints_are_small() -> None:
    from pyqinfer.zoo.trained import WEIGHTS

    assert {path.suffix for path in WEIGHTS.iterdir()} == {".json", ".npz"}
    assert all(path.stat().st_size < 5_000_000 for path in WEIGHTS.iterdir())


# The numbers of images are enough to tell a checkpoint that was loaded wrongly; the wide network sees 64x64 pixels.
TRAINED = [("resnet20_glyphs", 2000), ("mobilenet_v2_small_glyphs", 1000), ("resnet20_wide_glyphs", 500)]


@needs_fonts
@pytest.mark.parametrize(("name", "count"), TRAINED)
def test_trained_networks_reach_their_recorded_accuracy_on_unseen_fonts(name: str, count: int) -> None:
    record = zoo.training_record(name)
    assert record["accuracy"]["test"]["top1_percent"] > 94
    images, labels = zoo.glyphs("test", record["data"]["size"])
    with torch.inference_mode():
        predicted = zoo.load_trained(name)(torch.from_numpy(images[:count])).argmax(1).numpy()
    top1 = 100 * (predicted == labels[:count]).mean()
    assert abs(top1 - record["accuracy"]["test"]["top1_percent"]) < 3 * (5 * 95 / count) ** 0.5


def test_every_checkpoint_is_tested() -> None:
    assert {name for name, _ in TRAINED} == set(zoo.trained_names())
