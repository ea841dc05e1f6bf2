import pytest

from pace_tune.errors import ConfigError
from pace_tune.study.paths import assign, flatten, nest, parse_settings
from pace_tune.study.yaml_text import parse_yaml, read_mapping, to_yaml


def test_a_tree_is_flat_and_a_tree_again():
    tree = {"method": {"name": "lora_add", "rank": {"int": [1, 2]}}, "optim": {"betas": [0.9, 0.99]}, "seed": 1}
    assert flatten(tree) == {"method.name": "lora_add", "method.rank": {"int": [1, 2]}, "optim.betas": [0.9, 0.99], "seed": 1}
    assert nest(flatten(tree)) == tree
    assert flatten(flatten(tree)) == flatten(tree)


def test_a_bare_component_is_its_name():
    assert flatten({"method": "linear", "objective": {"choice": ["plain", "pace"]}}) == {
        "method.name": "linear",
        "objective.name": {"choice": ["plain", "pace"]},
    }


def test_assign_makes_what_is_missing_and_leaves_the_original():
    tree = {"method": "linear"}
    assert assign(tree, path="method.rank", value=3) == {"method": {"name": "linear", "rank": 3}}
    assert assign(tree, path="search.early_stopping.reduction", value=2) == {
        "method": "linear",
        "search": {"early_stopping": {"reduction": 2}},
    }
    assert tree == {"method": "linear"}


@pytest.mark.parametrize("tree", [{"optim": {"lr": 1}}, {"optim": {"lr": {"float": [0, 1]}}}])
def test_assign_does_not_lead_through_a_value(tree):
    with pytest.raises(ConfigError, match="cannot set a part of"):
        assign(tree, path="optim.lr.high", value=3)


def test_settings_are_read_as_yaml():
    values = parse_settings(["optim.lr=1e-3", "method.name=linear", "data.root=", "optim.betas=[0.9, 0.99]", "method.rank={int: [1, 4]}"])
    assert values == {
        "optim.lr": 1e-3,
        "method.name": "linear",
        "data.root": None,
        "optim.betas": [0.9, 0.99],
        "method.rank": {"int": [1, 4]},
    }


@pytest.mark.parametrize("text", ["optim.lr", "=3", "optim..lr=3", ".lr=3"])
def test_a_setting_has_a_path_and_a_value(text):
    with pytest.raises(ConfigError, match="a setting is written path=value"):
        parse_settings([text])


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("1E5", 1e5), ("-2e+3", -2e3), ("1.5e-3", 1.5e-3), ("1e", "1e"), ("e-3", "e-3")]
)
def test_exponents_without_a_dot_are_numbers(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "this is no valid YAML: .* at line 1, column"),
        ("a: 1\nb:\n  c: 1\n  c: 2", "the key 'c' is written twice in the mapping that starts on line 3"),
        ("a: !!python/object/apply:os.system [ls]", "this is no valid YAML"),
        ("a: \x00", "this is no valid YAML"),
        ("? {a: 1}\n: 2", "this is no valid YAML"),
    ],
)
def test_what_is_no_yaml(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text)


def test_a_file_that_holds_no_mapping_names_itself(tmp_path):
    for name, content, message in [
        ("list.yaml", b"- 1", "a mapping is needed, but this file holds a list"),
        ("empty.yaml", b"", "a mapping is needed, but this file holds nothing"),
        ("binary.yaml", b"\xff\xfe\xff", "it is not UTF-8 text"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=message) as caught:
            read_mapping(path)
        assert str(path) in str(caught.value)
    with pytest.raises(ConfigError, match="No such file or directory"):
        read_mapping(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_mapping(tmp_path)


def test_yaml_out_is_yaml_in():
    mapping = {"method": {"name": "linear"}, "optim": {"lr": 1e-3, "betas": [0.9, 0.999], "clip_grad_norm": None}, "text": "off", "σ": True}
    assert parse_yaml(to_yaml(mapping)) == mapping
