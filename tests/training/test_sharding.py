"""A backbone spread over processes trains what a whole one does, in about half of its memory in each of two."""

import gc
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, multiprocessing, nn
from torch.distributed.tensor import DTensor

from pace_tune.errors import UnsupportedError
from pace_tune.methods.adapted import Adapted
from pace_tune.models.backbone import InputSpec
from pace_tune.pace.criterion import CRITERIA
from pace_tune.registry import methods
from pace_tune.training.crew import Crew
from pace_tune.training.data import ResidentData
from pace_tune.training.judge import Judge
from pace_tune.training.population import Population
from pace_tune.training.sharding import shard_backbone
from pace_tune.training.team import SOLO, BrokenTeamError, ProcessTeam, Team, join
from tests.methods import tiny_models
from tests.training.crews import a_crew, a_run, curve, parameters, small_vit, train
from tests.training.teams import CPU, TIMEOUT_S, seat_of

FIELDS: dict[str, dict[str, Any]] = {
    "lora_add": {"rank": 2},
    "lora_mul": {"rank": 2},
    "lora_mul_vpt_add": {"rank": 2},
    "peft:lora": {"rank": 2},
}
CASES = [
    ("lora_add", "plain"),
    ("lora_add", "pace"),
    ("lora_mul_vpt_add", "plain"),
    ("lora_mul_vpt_add", "pace"),
    ("adaptformer", "plain"),
    ("adaptformer", "pace"),
    ("vpt_deep", "plain"),
    ("vpt_deep", "pace"),
    ("lora_mul", "l2_sp"),
]
Found = list[tuple[dict[str, list[float]], list[list[float]]]]


def runs_of(method: str, objective: str, **more: Any) -> dict[str, Any]:
    changes = {"objective__name": objective, "method__name": method, "optim__batch_size": 7, "measure__every_epochs": 2, **more}
    changes |= {f"method__{key}": value for key, value in FIELDS.get(method, {}).items()}
    return {f"t{seed}": a_run(**changes, seed=seed) for seed in range(1 if method.startswith("peft") else 2)}


def told(crew: Crew, runs: dict[str, Any]) -> Any:
    """Every metric of two epochs, and the parameters at their end."""
    reports = train(crew, runs, epochs=2)
    assert [report["reason"] for lane in reports.values() for report in lane] == [""] * 2 * len(runs)
    keys = [key for key in reports["t0"][1]["metrics"] if "speed" not in key and "accuracy" not in key]
    return {name: curve(reports[name], *keys) for name in runs}, [parameters(crew, name).tolist() for name in runs]


def images_learned(team: Team, cases: list[tuple[str, str]], spread: bool, dtype: torch.dtype = torch.float64) -> Found:
    return [told(a_crew(dtype=dtype, team=team, sharded=spread, train=16), runs_of(*case)) for case in cases]


def assert_equal(ours: Found, expected: Found, *, rel: float) -> None:
    for (metrics, _), (theirs, _) in zip(ours, expected, strict=True):
        for name in theirs:
            assert len(metrics[name]) > 10
            assert metrics[name] == pytest.approx(theirs[name], rel=rel, abs=1e-12)


@pytest.mark.parametrize("cases", [CASES, pytest.param([("peft:lora", "plain"), ("peft:lora", "pace")], marks=pytest.mark.slow)])
def test_it_learns_what_whole_copies_do_to_the_bit_and_what_one_process_does(in_team, cases):
    first, second = in_team(images_learned, cases, True)
    assert first == second
    whole, _ = in_team(images_learned, cases, False)
    assert first == whole
    assert_equal(first, images_learned(SOLO, cases, False), rel=1e-10)


def test_so_it_is_in_single_precision_and_where_blocks_run_again(in_team):
    cases = [("lora_mul_vpt_add", "pace")]
    first, _ = in_team(images_learned, cases, True, torch.float32)
    assert_equal(first, images_learned(SOLO, cases, False, torch.float32), rel=2e-3)
    again, _ = in_team(run_again, True)
    assert_equal(again, run_again(SOLO, False), rel=1e-10)


def run_again(team: Team, spread: bool) -> Found:
    crew = a_crew(dtype=torch.float64, team=team, sharded=spread, train=16)
    return [told(crew, runs_of("adaptformer", "pace", backbone__gradient_checkpointing=True))]


def a_text_crew(kind: str, team: Team, *, spread: bool) -> Crew:
    torch.manual_seed(0)
    model: nn.Module = getattr(tiny_models, kind)().double().eval()
    if spread:
        shard_backbone(model, team=team, device=CPU)
    causal = kind == "llama"

    def split(count: int) -> ResidentData:
        ids = torch.randint(3, tiny_models.WORDS, (count, 8))
        targets = ids if causal else ids[:, 0] % tiny_models.CLASSES
        return ResidentData({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, targets, InputSpec(max_length=8))

    judge = Judge(CRITERIA["token"], ("token_accuracy",)) if causal else Judge(CRITERIA["class"])
    return Crew(model, train=split(16), val=split(8), judge=judge, team=team)


def text_learned(team: Team, kinds: list[str], spread: bool) -> Found:
    cases = [("lora_mul_vpt_add" if kind == "roberta" else "lora_add", "pace") for kind in kinds]
    return [told(a_text_crew(kind, team, spread=spread), runs_of(*case)) for kind, case in zip(kinds, cases, strict=True)]


def test_text_models_with_their_embeddings_and_output_layers_do_too(in_team):
    kinds = ["roberta", "llama"]
    first, second = in_team(text_learned, kinds, True)
    assert first == second
    whole, _ = in_team(text_learned, kinds, False)
    assert first == whole
    assert_equal(first, text_learned(SOLO, kinds, False), rel=1e-5)  # transformers norms in single precision


def said(team: Team, spread: bool) -> dict[str, Any]:
    """What a model of every family says, and the gradient of its first delta."""
    found = {}
    for name in (*tiny_models.MODELS, "llama tied"):
        family = name.split()[0]
        model = tiny_models.model_of(family)
        if name != family:  # one weight for words and outputs
            model.lm_head.weight = model.get_submodule("model.embed_tokens").weight
        if spread:
            shard_backbone(model, team=team, device=CPU)
        adapted = Adapted(model, [methods.build({"name": "lora_add", "rank": 2})], seeds=[0])
        logits = adapted(**tiny_models.inputs_of(family))
        logits.square().mean().backward()
        found[name] = (logits.tolist(), adapted.bank.grads_KP.tolist())
    return found


def test_models_of_every_family_say_the_same(in_team):
    expected = said(SOLO, False)
    assert len(expected) == 8
    assert in_team(said, True) == [expected, expected]


def live_bytes() -> int:
    gc.collect()
    # A DTensor has the size of the whole, but no memory; its part is a tensor of its own.
    alive = [t.untyped_storage() for t in gc.get_objects() if isinstance(t, Tensor) and not isinstance(t, DTensor)]
    return sum({storage._cdata: storage.nbytes() for storage in alive}.values())


def memory(team: ProcessTeam, kind: str) -> dict[str, int]:
    """What this process holds of a backbone, counted over all tensors that are alive."""
    empty = live_bytes()
    model = small_vit(width=96) if kind == "vit" else getattr(tiny_models, kind)()
    whole = live_bytes() - empty
    window = shard_backbone(model, team=team, device=CPU)
    spread = live_bytes() - empty
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32) if kind == "vit" else torch.ones(1, 8, dtype=torch.long))
    during = live_bytes() - empty
    window.clear()
    return {"whole": whole, "spread": spread, "during": during, "after": live_bytes() - empty, "most": window.most_bytes}


@pytest.mark.parametrize(("kind", "share"), [("vit", 0.56), ("llama", 0.53)])
def test_a_process_holds_about_its_share_and_one_block(in_team, kind, share):
    for found in in_team(memory, kind):
        assert 0.49 < found["spread"] / found["whole"] < share
        assert found["after"] == found["spread"]
        assert found["spread"] < found["during"] <= found["spread"] + found["most"] + 64
        assert found["most"] < 0.4 * found["whole"]


def a_breaking_crew(team: Team, where: str, error: Exception, *, spread: bool) -> Crew:
    """A crew whose second process breaks in the middle of a block, where lane t1 is, until it has had less to do at a time."""
    crew, broken = a_crew(dtype=torch.float64, team=team, sharded=spread), {"on": False}

    def breaks(*_: Any) -> None:
        if broken["on"] and team.rank == 1:
            raise error

    def leave(_: nn.Module, __: Any, out: Tensor) -> None:
        if where != "backward":
            breaks()
        elif out.requires_grad:
            out.register_hook(breaks)

    assert isinstance(crew.model, nn.Module)
    crew.model.get_submodule("blocks.1.mlp").register_forward_hook(leave)

    def watched(name: str, owner: Any, on: Callable[[Population], bool]) -> None:
        inner = getattr(owner, name)

        def outer(self: Any, *args: Any, **kwargs: Any) -> Any:
            broken["on"] = on(self if owner is Population else args[0])
            try:
                return inner(self, *args, **kwargs)
            finally:
                broken["on"] = False

        setattr(owner, name, outer)

    memory_lacks = isinstance(error, torch.OutOfMemoryError)

    def bad(p: Population) -> bool:
        return p.micro_batches == 1 if memory_lacks else any(lane.name == "t1" for lane in p.lanes)

    watched(*(("_reports", Crew) if where == "validation" else ("_backward", Population)), on=bad)
    return crew


def one_breaks(team: ProcessTeam, where: str) -> Any:
    reports_of = Crew._reports
    try:
        reports = train(a_breaking_crew(team, where, ValueError("a damaged lane"), spread=True), runs_of("lora_add", "pace"), epochs=2)
    finally:
        Crew._reports = reports_of  # type: ignore[method-assign]
    return {name: [(r["state"], r["reason"]) for r in reports[name]] for name in reports}


@pytest.mark.parametrize("where", ["forward", "backward", "validation"])
def test_an_error_in_the_middle_of_one_is_the_lanes_and_nobody_waits(in_team, where):
    for found in in_team(one_breaks, where):
        assert found["t0"] == [("running", "")] * 2
        assert [state for state, _ in found["t1"]] == ["failed"]
        assert "a damaged lane" in found["t1"][0][1]


def memory_lacks(team: ProcessTeam) -> Any:
    crew = a_breaking_crew(team, "backward", torch.OutOfMemoryError("CUDA out of memory."), spread=True)
    found = told(crew, runs_of("lora_add", "pace", optim__batch_size=8))
    (population,) = crew._populations.values()
    return [found], population.micro_batches


def test_memory_that_one_lacks_divides_the_step_of_all(in_team):
    expected = [told(a_crew(dtype=torch.float64), runs_of("lora_add", "pace", optim__batch_size=8))]
    for found, micro_batches in in_team(memory_lacks):
        assert micro_batches == 2
        assert_equal(found, expected, rel=1e-10)


def one_dies(seat: dict[str, Any], said: Any) -> None:
    torch.set_num_threads(1)
    team = join(seat, device=CPU)
    crew = a_crew(team=team, sharded=True)
    if team.rank == 1:
        crew.model.get_submodule("blocks.1.mlp").register_forward_hook(lambda *_: os._exit(9))
    try:
        train(crew, runs_of("lora_add", "pace"), epochs=2)
    except BrokenTeamError as error:
        said.put(str(error))


@pytest.mark.slow
def test_where_one_dies_the_other_says_so_and_no_lane_is_to_blame():
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said: Any = context.Queue()
    both = [context.Process(target=one_dies, args=(seat_of(rank, port), said)) for rank in range(2)]
    for process in both:
        process.start()
    assert "process 0 of 2 lost the others" in said.get(timeout=TIMEOUT_S)
    for process in both:
        process.join(TIMEOUT_S)
    assert [process.exitcode for process in both] == [0, 9]


def unasked(team: ProcessTeam) -> Any:
    model = small_vit()
    shard_backbone(model, team=team, device=CPU)
    weight = model.blocks[0].attn.qkv.weight
    return tuple(weight.shape), bool(weight.isnan().all())


def test_weights_that_are_away_read_as_nan_in_their_shape(in_team):
    assert in_team(unasked) == [((96, 32), True)] * 2


def test_a_process_alone_and_a_model_without_blocks_are_refused():
    with pytest.raises(UnsupportedError, match="several processes, and this one is alone"):
        shard_backbone(small_vit(), team=SOLO, device=CPU)
    with pytest.raises(UnsupportedError, match="family 'linear' cannot be spread: no table says which blocks it has"):
        shard_backbone(nn.Sequential(nn.Linear(2, 2)), team=SOLO, device=CPU)
