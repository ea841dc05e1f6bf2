"""Methods against independent implementations: peft's LoRA, VeRA and HiRA, and GLoRA's formula written out."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pace_tune.methods.adapted import Adapted
from pace_tune.methods.context import generator
from pace_tune.methods.glora import FORMS, Glora, GloraDelta
from pace_tune.methods.lora import LoraDelta
from pace_tune.methods.lora_mul import LoraMulDelta
from pace_tune.methods.rlrr import RlrrDelta
from pace_tune.methods.supernet import encoded
from pace_tune.methods.vera import VeraDelta
from pace_tune.registry import methods
from tests.methods.tiny_models import inputs_of, model_of

IN, OUT = 12, 20


def layer(*, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(IN, OUT, bias=bias).double()


def peft_layer(config: object, base: nn.Linear) -> nn.Module:
    from peft import get_peft_model

    box = nn.Module()
    box.layer = base
    get_peft_model(box, config, autocast_adapter_dtype=False)
    return box.layer.eval()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def test_lora_is_pefts():
    from peft import LoraConfig

    theirs = peft_layer(LoraConfig(r=4, lora_alpha=6, target_modules=["layer"]), layer())
    down, up, x = normal(OUT, 4), normal(4, IN, seed=1), normal(5, IN, seed=2)
    with torch.no_grad():
        theirs.lora_A["default"].weight.copy_(up)
        theirs.lora_B["default"].weight.copy_(down)
    values = {"up": up[None], "down": down[None], "scale": torch.tensor([6 / 4], dtype=torch.float64)}
    mine = layer()(x) + LoraDelta(layer(), rank=4).lanes(x[None], values)[0]
    torch.testing.assert_close(mine, theirs(x), rtol=0, atol=1e-12)


def test_vera_is_pefts():
    from peft import VeraConfig

    theirs = peft_layer(VeraConfig(r=6, target_modules=["layer"]), layer())
    a, b = theirs.vera_A["default"].double(), theirs.vera_B["default"].double()
    # The same distribution: Kaiming-uniform with gain sqrt 2.
    assert a.abs().max() <= (6 / IN) ** 0.5
    assert b.abs().max() <= (6 / 6) ** 0.5
    d, scale, x = normal(6), normal(OUT, seed=1), normal(5, IN, seed=2)
    with torch.no_grad():
        theirs.vera_lambda_d["default"].copy_(d)
        theirs.vera_lambda_b["default"].copy_(scale)
    delta = VeraDelta(layer(), a=a, b=b, rows={"": slice(0, OUT)}, d_initial=0.1)
    mine = layer()(x) + delta.lanes(x[None], {"d": d[None], "b": scale[None]})[0]
    torch.testing.assert_close(mine, theirs(x), rtol=0, atol=1e-12)


def test_the_matrix_of_lora_mul_is_hira():
    from peft import HiraConfig

    theirs = peft_layer(HiraConfig(r=4, target_modules=["layer"]), layer())
    down, up, x = normal(OUT, 4), normal(4, IN, seed=1), normal(5, IN, seed=2)
    with torch.no_grad():
        theirs.hira_A["default"].copy_(up)
        theirs.hira_B["default"].copy_(down)
    values = {"down": down[None], "up": up[None], "bias": torch.zeros(1, OUT, dtype=torch.float64)}
    mine = layer()(x) + LoraMulDelta(layer(), rank=4).lanes(x[None], values)[0]
    torch.testing.assert_close(mine, theirs(x), rtol=0, atol=1e-12)


def test_the_matrix_of_rlrr_is_lora_mul_of_rank_one():
    row, column, x = normal(OUT), normal(1, IN, seed=1), normal(5, IN, seed=2)
    rlrr = {"row": row[None], "column": column[None], "bias": torch.zeros(1, OUT, dtype=torch.float64)}
    mul = {"down": row[None, :, None], "up": column[None], "bias": torch.zeros(1, OUT, dtype=torch.float64)}
    torch.testing.assert_close(
        RlrrDelta(layer(), sizes=(OUT,)).lanes(x[None], rlrr), LoraMulDelta(layer(), rank=1).lanes(x[None], mul), rtol=0, atol=1e-12
    )


def glora_by_hand(base: nn.Linear, values: dict[str, Tensor], forms: dict[str, str], x: Tensor) -> Tensor:
    """f(x) = (W0 + W0 * A + B) x + b0 + b0 * D + E + W0 C, each letter in its form."""

    def part(letter: str) -> Tensor:
        down = values[f"{letter}_down"]
        if forms[letter] == "lora":
            return down @ values[f"{letter}_up"]
        if forms[letter] == "vector":
            return down[:, :1]
        return down[:1, :1] if forms[letter] == "constant" else torch.zeros(1, 1, dtype=down.dtype)

    weight = base.weight + base.weight * part("A") + part("B")
    prompt = part("C")[:, 0].expand(IN)
    return F.linear(x, weight, base.bias + base.bias * part("D")[:, 0] + part("E")[:, 0] + base.weight @ prompt)


@pytest.mark.parametrize("number", range(5))
def test_every_form_of_glora_is_its_formula(number: int):
    base, x = layer(), normal(5, IN)
    supernet = GloraDelta(base, rank=3)
    values = {key: normal(*value.shape, seed=i) for i, (key, value) in enumerate(supernet.init(generator(0)).items())}
    forms = {letter: options[(number + i) % len(options)] for i, (letter, options) in enumerate(FORMS.items())}
    one_hot = [F.one_hot(torch.tensor(options.index(forms[letter])), len(options)) for letter, options in FORMS.items()]
    given = {**{key: value[None] for key, value in values.items()}, "path": torch.cat(one_hot)[None].double()}
    with torch.no_grad():
        mine = base(x) + supernet.lanes(x[None], given)[0]
        torch.testing.assert_close(mine, glora_by_hand(base, values, forms, x), rtol=0, atol=1e-12)


def test_glora_of_one_path_is_pefts():
    from peft import GloraConfig

    base, x = layer(), normal(5, IN)
    config = GloraConfig(r=3, target_modules=["layer"])
    theirs = peft_layer(config, layer())
    values = {key: normal(*value.shape, seed=i) for i, (key, value) in enumerate(GloraDelta(base, rank=3).init(generator(0)).items())}
    own = dict(theirs.named_parameters())
    with torch.no_grad():
        for letter in "AB":
            own[f"glora_{letter}.default.Xd"].copy_(values[f"{letter}_down"])
            own[f"glora_{letter}.default.Xu"].copy_(values[f"{letter}_up"])
        own["glora_C.default.Xd"].copy_(values["C_down"])
        own["glora_C.default.Xu"].copy_(values["C_up"])
        for letter in "DE":  # peft's default for both is a constant
            own[f"glora_{letter}.default.X"].copy_(values[f"{letter}_down"][:1, 0].view(own[f"glora_{letter}.default.X"].shape))
        forms = {"A": "lora", "B": "lora", "C": "lora", "D": "constant", "E": "constant"}
        torch.testing.assert_close(glora_by_hand(base, values, forms, x), theirs(x), rtol=0, atol=1e-12)


def test_the_rows_of_q_and_v_are_those_of_a_fused_layer():
    """LoRA on q and v of timm's fused layer equals LoRA on the separate layers of a transformers ViT with the same weights."""
    fused, apart = model_of("vit").blocks[0].attn.qkv, model_of("hf_vit")
    attention = apart.vit.layers[0].attention
    with torch.no_grad():
        for i, part in enumerate((attention.q_proj, attention.k_proj, attention.v_proj)):
            fused.weight[16 * i : 16 * (i + 1)] = part.weight
            fused.bias[16 * i : 16 * (i + 1)] = part.bias
    delta = LoraDelta(fused, rank=3, rows={"q": slice(0, 16), "v": slice(32, 48)})
    values = {key: normal(*value.shape, seed=i)[None] for i, (key, value) in enumerate(delta.init(generator(0)).items())}
    x = normal(5, 16)
    out = (fused(x) + delta.lanes(x[None], values)[0]).chunk(3, dim=-1)
    for part, name, got in ((attention.q_proj, "q", out[0]), (attention.v_proj, "v", out[2])):
        own = {"up": values[f"up{name}"], "down": values[f"down{name}"]}
        torch.testing.assert_close(got, part(x) + LoraDelta(part, rank=3).lanes(x[None], own)[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(out[1], attention.k_proj(x), rtol=0, atol=1e-12)


def test_prompts_of_vpt_are_tokens_of_every_block():
    """The deep form by hand: concatenate, run the block, drop what the prompts became."""
    adapted = Adapted(model_of("vit"), [methods.build({"name": "vpt_deep", "prompts": 3})], keep_head=True)
    plain, x = model_of("vit"), inputs_of("vit")["x"]
    values = adapted.lane_values(0)
    tokens = plain._pos_embed(plain.patch_embed(x))
    for i, block in enumerate(plain.blocks):
        prompts = values[f"blocks.{i}/prompts"].expand(len(x), -1, -1)
        assert prompts.abs().max() <= (6 / (3 * 8 * 8 + 16)) ** 0.5
        mixed = block(torch.cat([tokens[:, :1], prompts, tokens[:, 1:]], dim=1))
        tokens = torch.cat([mixed[:, :1], mixed[:, 4:]], dim=1)
    torch.testing.assert_close(adapted(x), plain.forward_head(plain.norm(tokens)), rtol=0, atol=1e-12)


def test_adaptformer_reads_the_stream_before_the_second_norm():
    adapted = Adapted(model_of("vit"), [methods.build({"name": "adaptformer", "hidden": 4, "scale": 0.5})], keep_head=True)
    with torch.no_grad():
        adapted.bank.values_KP.normal_(generator=generator(1))
    values, plain, x = adapted.lane_values(0), model_of("vit"), inputs_of("vit")["x"]
    tokens = plain._pos_embed(plain.patch_embed(x))
    for i, block in enumerate(plain.blocks):
        own = {key: values[f"blocks.{i}/{key}"] for key in ("down", "down_bias", "up", "up_bias")}
        middle = tokens + block.attn(block.norm1(tokens))
        branch = F.linear(F.relu(F.linear(middle, own["down"], own["down_bias"])), own["up"], own["up_bias"])
        tokens = middle + block.mlp(block.norm2(middle)) + 0.5 * branch
    head = {key.rpartition("/")[2]: value for key, value in values.items() if adapted.is_head(key)}
    pooled = plain.fc_norm(plain.norm(tokens)[:, 0])
    torch.testing.assert_close(adapted(x), F.linear(pooled, head["weight"], head["bias"]), rtol=0, atol=1e-12)


def test_choosing_a_path_gives_the_numbers_that_the_supernet_gives_on_it():
    supernet = Glora(rank=3)
    adapted = Adapted(model_of("vit"), [supernet], keep_head=True)
    with torch.no_grad():
        adapted.bank.values_KP.normal_(std=0.1, generator=generator(1))
    choice = encoded(i % len(forms) for i, forms in enumerate(supernet.choices(adapted.layout).values()))
    adapted.context.paths = supernet.fixed_path(adapted.layout, choice)
    x = inputs_of("vit")["x"]
    on_path = adapted(x)
    chosen = supernet.set_choice(choice)
    plain = Adapted(model_of("vit"), [chosen], keep_head=True)
    head = {key: value for key, value in adapted.lane_values(0).items() if adapted.is_head(key)}
    plain.set_lanes([chosen], [{**chosen.inherited(plain.layout, adapted.lane_values(0)), **head}])
    torch.testing.assert_close(plain(x), on_path, rtol=0, atol=1e-12)
    assert plain.num_parameters(head=False) == supernet.cost(plain.layout, choice)


def test_choosing_widths_of_noah_gives_the_numbers_that_the_supernet_gives_with_them():
    from pace_tune.methods.noah import Noah

    supernet = Noah(widths=(1, 3))
    adapted = Adapted(model_of("vit"), [supernet], keep_head=True)
    with torch.no_grad():
        adapted.bank.values_KP.normal_(std=0.3, generator=generator(1))
    choice = "101" + "010" + "001"  # vpt in both blocks, lora and adapter in the first; then the widths of each
    adapted.context.paths = supernet.fixed_path(adapted.layout, choice)
    x = inputs_of("vit")["x"]
    on_path = adapted(x)
    chosen = supernet.set_choice(choice)
    plain = Adapted(model_of("vit"), [chosen], keep_head=True)
    head = {key: value for key, value in adapted.lane_values(0).items() if adapted.is_head(key)}
    plain.set_lanes([chosen], [{**chosen.inherited(plain.layout, adapted.lane_values(0)), **head}])
    torch.testing.assert_close(plain(x), on_path, rtol=0, atol=1e-12)
    assert plain.num_parameters(head=False) == supernet.cost(plain.layout, choice) == 4 * 16 + 3 * 64 + (16 + 16 + 1 + 16)


@pytest.mark.parametrize("fields", [{"rank": 3, "alpha": 6}, {"rank": 3, "targets": "qv"}, {"rank": 2, "targets": "all", "dropout": 0.3}])
def test_lora_as_one_operation_is_lora_as_several(fields: dict, monkeypatch: pytest.MonkeyPatch):
    from pace_tune.methods import fused
    from pace_tune.methods.site import LinearSite
    from pace_tune.pace.draws import draw_step, noise_plan

    monkeypatch.setattr(fused, "FEWEST_TOKENS", 1)
    results = []
    for fuses in (True, False):
        monkeypatch.setattr(LinearSite, "fuses", fuses)
        adapted = Adapted(model_of("vit"), [methods.build({"name": "lora", **fields})] * 2, keep_head=True, seeds=(0, 1))
        with torch.no_grad():
            adapted.bank.values_KP.normal_(std=0.2, generator=generator(2))
        sigma = adapted.bank.values_KP.new_tensor([0.5, 1.0])
        draw = draw_step(
            adapted, generators=[generator(0), generator(1)], samples=4, plan=noise_plan(adapted, quiet_blocks=0), sigma_K=sigma
        )
        with adapted.context.step(rows=4, draw=draw):
            out = adapted(torch.cat([inputs_of("vit")["x"]] * 2))
        out.square().sum().backward()
        results.append((out.detach(), adapted.bank.grads_KP.clone()))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-12)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-10, atol=1e-11)
