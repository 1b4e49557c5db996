"""Files with the key names of other projects, made from our own networks, must come back as those networks."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from cli.models import importing
from cli.models.weight_formats import FORMATS
from cli.models.weight_formats.base import LABEL_SCALES
from model import checkpoint, golden
from model.networks import registry
from model.networks.network import Network
from tests.commands import python, smart_iqa
from training.datasets import READERS

Weights = dict[str, Tensor]


def randomised(name: str, **changes: Any) -> Network:
    torch.manual_seed(1)
    network = registry.build(name, **changes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def renamed(weights: Weights, *rules: tuple[str, str]) -> Weights:
    made = {}
    for key, value in weights.items():
        for ours, theirs in rules:
            if re.match(ours, key):
                made[re.sub(f"^{ours}", theirs, key)] = value
                break
        else:
            raise AssertionError(key)
    return made


HYPER = (
    (r"hyper\.trunk\.(\d)\.", r"conv1.\1."),
    (r"hyper\.last_weight\.", "fc5w_fc."),
    *((rf"hyper\.weight_convs\.{place}\.", f"fc{place + 1}w_conv.") for place in range(4)),
    *((rf"hyper\.biases\.{place}\.", f"fc{place + 1}b_fc.") for place in range(5)),
)


def lda(prefix: str) -> tuple[tuple[str, str], ...]:
    return (
        *((rf"distortion\.convs\.{place}\.", f"{prefix}.lda{place + 1}_pool.0.") for place in range(3)),
        *((rf"distortion\.linears\.{place}\.", f"{prefix}.lda{place + 1}_fc.") for place in range(4)),
    )


def smart(network: Network) -> Weights:
    rules = (
        (r"backbone\.features\.", "swin.backbone."),
        (r"attention\.layers\.", "multiscale_attention.attention_net."),
    )
    return renamed(network.state_dict(), *rules, *lda("swin"), *HYPER)


def hyperiqa(network: Network) -> Weights:
    return renamed(network.state_dict(), (r"backbone\.features\.", "res."), *lda("res"), *HYPER)


def pyiqa_hyperiqa(network: Network) -> dict[str, Weights]:
    rules = (
        (r"backbone\.features\.", "base_model."),
        (r"distortion\.convs\.(\d)\.", r"lda_modules.\1.0."),
        (r"distortion\.linears\.3\.", "lda_modules.3.2."),
        (r"distortion\.linears\.(\d)\.", r"lda_modules.\1.3."),
        (r"hyper\.trunk\.(\d)\.", r"conv1.\1."),
        (r"hyper\.last_weight\.", "fc_w_modules.4.2."),
        (r"hyper\.weight_convs\.(\d)\.", r"fc_w_modules.\1."),
        (r"hyper\.biases\.(\d)\.", r"fc_b_modules.\1.2."),
    )
    return {"params": renamed(network.state_dict(), *rules)}


def pyiqa_musiq(network: Network) -> Weights:
    block = "transformer_encoder.transformer.encoderblock_"
    rules = (
        (r"stem\.root\.", "conv_root."),
        (r"stem\.root_norm\.", "gn_root."),
        (r"stem\.shortcut\.", "block1.conv_proj."),
        (r"stem\.shortcut_norm\.", "block1.gn_proj."),
        *((rf"stem\.convs\.{place}\.", f"block1.conv{place + 1}.") for place in range(3)),
        *((rf"stem\.norms\.{place}\.", f"block1.gn{place + 1}.") for place in range(3)),
        (r"stem\.embedding\.", "embedding."),
        (r"cls", "transformer_encoder.cls"),
        (r"positions", "transformer_encoder.posembed_input.position_emb"),
        (r"scales", "transformer_encoder.scaleembed_input.scale_emb"),
        (r"norm\.", "transformer_encoder.encoder_norm."),
        (r"blocks\.(\d+)\.first\.", block + r"\1.mlp.fc1."),
        (r"blocks\.(\d+)\.second\.", block + r"\1.mlp.fc2."),
        (r"blocks\.(\d+)\.", block + r"\1."),
        (r"head\.", "head."),
    )
    made = renamed(network.state_dict(), *rules)
    made["transformer_encoder.posembed_input.position_emb"].unsqueeze_(0)
    return made


def google_musiq(network: Network) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays as Flax has them: inputs before outputs, heads apart."""
    weights, heads = network.state_dict(), network.config.heads
    made: dict[str, np.ndarray[Any, Any]] = {}

    def put(name: str, ours: str) -> None:
        for ending in ("weight", "bias"):
            value = weights.get(f"{ours}.{ending}")
            if value is None:
                continue
            theirs = "bias" if ending == "bias" else "scale" if value.ndim == 1 else "kernel"
            if value.ndim == 4:
                value = value.permute(2, 3, 1, 0)
            elif value.ndim == 2:
                value = value.T
            if "SelfAttention" in name and not name.endswith("out"):
                value = value.unflatten(-1, (heads, -1))
            elif "SelfAttention" in name and value.ndim == 2:
                value = value.unflatten(0, (heads, -1))
            made[f"opt/target/{name}/{theirs}"] = value.numpy()

    put("conv_root", "stem.root")
    put("gn_root", "stem.root_norm")
    put("block1/unit1/conv_proj", "stem.shortcut")
    put("block1/unit1/gn_proj", "stem.shortcut_norm")
    for place in range(3):
        put(f"block1/unit1/conv{place + 1}", f"stem.convs.{place}")
        put(f"block1/unit1/gn{place + 1}", f"stem.norms.{place}")
    put("embedding", "stem.embedding")
    for place in range(network.config.depth):
        block = f"Transformer/encoderblock_{place}"
        put(f"{block}/LayerNorm_0", f"blocks.{place}.norm1")
        put(f"{block}/LayerNorm_2", f"blocks.{place}.norm2")
        for part in ("query", "key", "value", "out"):
            put(f"{block}/SelfAttention_1/{part}", f"blocks.{place}.attention.{part}")
        put(f"{block}/MlpBlock_3/Dense_0", f"blocks.{place}.first")
        put(f"{block}/MlpBlock_3/Dense_1", f"blocks.{place}.second")
    put("Transformer/encoder_norm", "norm")
    put("head", "head")
    made["opt/target/Transformer/cls"] = weights["cls"].numpy()
    made["opt/target/Transformer/posembed_input/pos_embedding"] = weights["positions"][None].numpy()
    made["opt/target/Transformer/scaleembed_input/scale_embedding"] = weights["scales"][None].numpy()
    return made | {"opt/state/step": np.array(7)}


def life(network: Network) -> dict[str, object]:
    rules = (
        (r"backbone\.features\.patch_embed\.", "backbone_stages.0.0."),
        (r"backbone\.features\.layers_0\.", "backbone_stages.0.1."),
        (r"backbone\.features\.layers_(\d)\.", r"backbone_stages.\1."),
        (r"queries", "bunch_embedding"),
        (r"from_third\.", "proj_layer3."),
        (r"from_fourth\.", "proj_layer4."),
        (r"layers\.(\d+)\.attention\.", r"bunch_decoder.layers.\1.multihead_attn."),
        *(
            (rf"layers\.(\d+)\.graph\.layers\.{place}\.", rf"bunch_decoder.layers.\1.GCN.gcn{place + 1}.")
            for place in range(3)
        ),
        (r"layers\.(\d+)\.norm\.", r"bunch_decoder.layers.\1.norm2."),
        (r"norm\.", "norm3."),
        (r"experts\.router\.", "MOE.router.linear."),
        (r"experts\.experts\.(\d+)\.", r"MOE.experts.\1.net."),
        (r"gamma", "gamma"),
        (r"score\.", "fc."),
    )
    made = renamed(network.state_dict(), *rules)
    made["proj_layer4.weight"] = made["proj_layer4.weight"][:, :, None, None]
    made = {key: value.T.contiguous() if re.search(r"gcn\d\.weight", key) else value for key, value in made.items()}
    twice = {key.replace("backbone_stages.", "pretrain_model."): value for key, value in made.items()}
    copies = {key: value for key, value in twice.items() if key.startswith("pretrain_model.")}
    return {"model": made | copies, "epoch": 3, "max_plcc": 0.9}


def small_life() -> Network:
    return randomised("life-iqa", backbone="swin_tiny_patch4_window7_224", experts=2, depth=2)


def life_of_authors(network: Network) -> dict[str, object]:
    """The authors keep the one weight of the residual as a scalar."""
    file = life(network)
    weights = cast("dict[str, Tensor]", file["model"])
    return file | {"model": weights | {"gamma": weights["gamma"].reshape(())}}


CASES: list[tuple[str, Callable[[], Network], Callable[[Network], object]]] = [
    ("smart", lambda: randomised("smart-tiny"), smart),
    ("hyperiqa", lambda: randomised("hyperiqa"), hyperiqa),
    ("pyiqa-hyperiqa", lambda: randomised("hyperiqa"), pyiqa_hyperiqa),
    ("pyiqa-musiq", lambda: randomised("musiq"), pyiqa_musiq),
    ("life", small_life, life),
    ("life", small_life, life_of_authors),
]


@pytest.mark.parametrize(("name", "make", "write"), CASES, ids=[case[2].__name__ for case in CASES])
def test_a_foreign_file_comes_back_as_our_network(
    name: str, make: Callable[[], Network], write: Callable[[Network], object], tmp_path: Path
) -> None:
    network = make()
    torch.save(write(network), tmp_path / "foreign.pth")
    weights = importing.read(tmp_path / "foreign.pth")
    assert importing.detect(weights) == name
    imported, contract = importing.convert(weights, FORMATS[name])
    assert registry.to_dict(imported) | {"dropout": 0, "drop_path": 0} == registry.to_dict(network) | {
        "dropout": 0,
        "drop_path": 0,
    }
    for key, value in network.state_dict().items():
        assert torch.equal(imported.state_dict()[key], value), key
    assert contract.scale.dataset == "koniq10k"


@pytest.mark.parametrize(("classes", "dataset", "top"), [(1, "koniq10k", 100.0), (10, "ava", 10.0)])
def test_googles_arrays(tmp_path: Path, classes: int, dataset: str, top: float) -> None:
    network = randomised("musiq-google", classes=classes)
    np.savez(tmp_path / "ckpt.npz", **google_musiq(network))  # type: ignore[arg-type]
    weights = importing.read(tmp_path / "ckpt.npz")
    assert importing.detect(weights) == "google-musiq"
    imported, contract = importing.convert(weights, FORMATS["google-musiq"])
    assert registry.to_dict(imported) == registry.to_dict(network)
    assert all(torch.equal(imported.state_dict()[key], value) for key, value in network.state_dict().items())
    assert (contract.scale.dataset, contract.scale.max, contract.kernel) == (dataset, top, "gaussian")


def test_the_head_that_grades_photos_from_one_to_ten() -> None:
    network = randomised("musiq", classes=10)
    weights = {re.sub("^head", "head.0", key): value for key, value in pyiqa_musiq(network).items()}
    imported, contract = importing.convert(weights, FORMATS["pyiqa-musiq"])
    assert contract.scale.dataset == "ava"
    crops = torch.zeros(1, 60, 3075)
    with torch.inference_mode():
        assert 1 <= imported.eval()(crops).score.item() <= 10


def test_the_data_set_decides_how_pictures_are_seen() -> None:
    view = registry.view("hyperiqa")
    live = FORMATS["hyperiqa"].contract("live", view)
    assert (live.resize, live.crops, live.scale.higher_is_better) == ("none", 25, False)
    spaq = FORMATS["life"].contract("spaq", view)
    assert (spaq.resize, spaq.width, spaq.height, spaq.crops) == ("exact", 384, 512, 40)
    loda = FORMATS["loda"].contract("kadid10k", view)
    # Cosines of -1 and 1 are the ends of the scale.
    assert (loda.slope, loda.intercept) == (2.0, 3.0)
    musiq = FORMATS["pyiqa-musiq"].contract("spaq", registry.view("musiq"))
    assert (musiq.view, musiq.longer_sides, musiq.crops) == ("tokens", (224, 384), 1)
    with pytest.raises(ValueError, match="released code saw 'ava' is not known; known are csiq, kadid10k"):
        FORMATS["hyperiqa"].contract("ava", view)


def test_lodas_learner_file_needs_the_trunks_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = randomised("loda-ti")
    rules = (
        (r"extractor\.(\d)\.", r"conv.\1."),
        (r"injectors\.(\d+)\.down\.first\.", r"down_proj.\1.fc1."),
        (r"injectors\.(\d+)\.down\.second\.", r"down_proj.\1.fc2."),
        (r"injectors\.(\d+)\.up\.first\.", r"up_proj.\1.fc1."),
        (r"injectors\.(\d+)\.up\.second\.", r"up_proj.\1.fc2."),
        (r"injectors\.(\d+)\.attention\.query\.", r"cross_attn.\1.q."),
        (r"injectors\.(\d+)\.attention\.key_value\.", r"cross_attn.\1.kv."),
        (r"injectors\.(\d+)\.attention\.out\.", r"cross_attn.\1.proj."),
        (r"head", "head.weight"),
    )
    state = network.state_dict()
    own = {key: value for key, value in state.items() if not key.startswith(("backbone", "transformer"))}
    scales = torch.stack([own.pop(f"injectors.{place}.scale") for place in range(12)])
    learner = renamed(own, *rules) | {"scale_factor": scales}
    learner["head.weight"] = learner["head.weight"][:, None]
    buffers = {key.removeprefix("backbone.features."): value + 0.5 for key, value in state.items() if "running" in key}
    torch.save({"learner": learner, "bn_buffer": buffers}, tmp_path / "loda.pt")
    weights = importing.read(tmp_path / "loda.pt")
    assert importing.detect(weights) == "loda"
    build = registry.build
    asked = []

    def without_hub(name: str, *, pretrained: bool, **changes: Any) -> Network:
        asked.append(pretrained)
        return build(name, **changes)

    monkeypatch.setattr(registry, "build", without_hub)
    imported, _ = importing.convert(weights, FORMATS["loda"])
    assert asked == [True]
    assert all(
        torch.equal(imported.state_dict()[key], value) for key, value in state.items() if key.startswith("injectors")
    )
    assert torch.equal(imported.state_dict()["head"], state["head"])
    assert all(torch.equal(imported.state_dict()[f"backbone.features.{key}"], value) for key, value in buffers.items())


def test_the_command(tmp_path: Path) -> None:
    torch.save(hyperiqa(randomised("hyperiqa")), tmp_path / "koniq_pretrained.pkl")
    made = smart_iqa("models", "import", tmp_path / "koniq_pretrained.pkl", "--out", tmp_path / "hyperiqa")
    assert made.returncode == 0, made.stderr
    assert "HyperIQA's released code" in made.stderr
    contract = checkpoint.load(tmp_path / "hyperiqa").contract
    assert (tmp_path / "hyperiqa" / golden.FILE).exists()
    assert (contract.resize, contract.width, contract.height, contract.crops) == ("exact", 384, 512, 25)
    again = smart_iqa("models", "import", tmp_path / "koniq_pretrained.pkl", "--out", tmp_path / "hyperiqa")
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_scales_are_those_of_the_readers_where_labels_were_not_turned_round() -> None:
    for name in ("koniq10k", "spaq", "clive", "flive", "kadid10k", "tid2013"):
        assert LABEL_SCALES[name] is READERS[name].scale
    for name in ("live", "csiq"):
        assert not LABEL_SCALES[name].higher_is_better


def test_importing_needs_no_training_libraries(tmp_path: Path) -> None:
    code = (
        "sys.modules |= dict.fromkeys(('pandas', 'scipy', 'matplotlib', 'tensorboard'))\n"
        "from cli.models import importing, weight_formats; assert weight_formats.FORMATS"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_wrong_and_damaged_files(tmp_path: Path) -> None:
    weights = hyperiqa(randomised("hyperiqa"))
    shorter = {key: value for key, value in weights.items() if key != "res.layer1.0.conv1.weight"}
    with pytest.raises(ValueError, match=r"released code: missing keys: backbone.features.layer1.0.conv1"):
        importing.convert(shorter, FORMATS["hyperiqa"])
    with pytest.raises(ValueError, match="unexpected keys: extra"):
        importing.convert(weights | {"extra": torch.zeros(1)}, FORMATS["hyperiqa"])
    with pytest.raises(ValueError, match=r"another shape: hyper.last_weight.weight \(2, 2\) instead of \(14, 112\)"):
        importing.convert(weights | {"fc5w_fc.weight": torch.zeros(2, 2)}, FORMATS["hyperiqa"])
    with pytest.raises(ValueError, match="no format that is known, the first is 'a'"):
        importing.detect({"a": torch.zeros(1)})
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(ValueError, match="not a PyTorch file"):
        importing.read(tmp_path / "text.pth")
    torch.save({"model": weights, "code": Path()}, tmp_path / "object.pth")
    with pytest.raises(ValueError, match="not a PyTorch file of plain tensors"):
        importing.read(tmp_path / "object.pth")
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(ValueError, match="not a NumPy file of plain arrays"):
        importing.read(tmp_path / "text.npz")
    np.savez(tmp_path / "object.npz", code=np.array([Path()]))
    with pytest.raises(ValueError, match="not a NumPy file of plain arrays"):
        importing.read(tmp_path / "object.npz")
    for name, data in (("short.pkl", b"\x80\x02."), ("array.npz", b"\x93NUMPY\x01\x00"), ("empty.pth", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=r"not a (PyTorch|NumPy) file"):
            importing.read(tmp_path / name)
    (tmp_path / "cut.pth").write_bytes((tmp_path / "object.pth").read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a PyTorch file of plain tensors"):
        importing.read(tmp_path / "cut.pth")
    with pytest.raises(ValueError, match="No such file"):
        importing.read(tmp_path / "none.pth")
