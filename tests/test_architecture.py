"""The picture in code: who may import whom, and how long things may get. Read from the source text, nothing is imported.

A *unit* is a package or module right under `pace_tune`. Two halves and one door: the searching half decides what to run
and needs no torch, the learning half knows how to run it and needs neither Ray nor MLflow; `worker` is the door between them.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pace_tune"
FILES = sorted(PACKAGE.rglob("*.py"))
# What people read and mend; generated folders are not here.
ALL_FILES = [*FILES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]

SHARED = {"errors", "component", "registry", "files", "patience", "storage", "wording"}
SEARCHING = {"study", "search", "cluster", "results", "tracking", "cli"}
LEARNING = {"methods", "pace", "benchmarks", "models", "training", "theory", "integrations"}
DOOR = "worker"
# A run's choices, typed: plain values that both halves read. The rest of `study` belongs to the search.
RUN = "study.run_config"

MAY_IMPORT = {
    # Lazy exports are named by strings; the types of `import pace_tune` come from the packages themselves.
    "__init__": SHARED | LEARNING | {"study"},
    "__main__": {"cli"},
    "errors": set(),
    "component": {"errors"},
    "registry": {"errors", "component"},
    "files": set(),
    "patience": {"errors"},
    "storage": {"errors", "files", "patience"},
    "wording": set(),
    # The searching half.
    "study": SHARED,
    "tracking": SHARED | {"study", DOOR},
    "cluster": SHARED | {"study", DOOR},
    "search": SHARED | {"study", "cluster", "tracking"},
    "results": SHARED | {"study", DOOR},
    "cli": SHARED | SEARCHING | {DOOR},
    # The door takes plain mappings in and gives plain reports out; it is where a mapping becomes a run configuration.
    DOOR: SHARED | LEARNING | {"study"},
    # The learning half.
    "benchmarks": SHARED | {"models"},  # images and text come out as a backbone's InputSpec says
    "models": SHARED,
    "methods": SHARED | {"pace"},
    "pace": SHARED | {"methods"},
    "training": SHARED | {"methods", "pace", "benchmarks", "models"} | {RUN},
    "integrations": SHARED | {"methods", "pace"},  # other people's training loops
    "theory": SHARED | {"methods", "pace", "benchmarks", "models", "training"} | {RUN},
}

TORCH = {"torch", "torchvision", "timm", "transformers", "peft", "safetensors"}
# Third-party root -> units that may import it anywhere, units that may import it inside a function.
THIRD_PARTY = {
    "ray": ({"search", "cluster"}, set()),
    "mlflow": ({"tracking"}, {"cli"}),
    "optuna": ({"search", "results"}, set()),
    "click": ({"cli"}, set()),
    **{root: (LEARNING | {DOOR}, {"cluster"}) for root in TORCH},
}

LONGEST_FUNCTION_LINES = 60
LONGEST_FILE_LINES = 400


@dataclass(frozen=True)
class Import:
    """One imported module, and whether importing the file runs it."""

    module: str
    at_import: bool
    line: int


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    return tuple(_imports(tree_of(path).body, package, at_import=True))


def _imports(nodes: list[ast.stmt], package: str, *, at_import: bool) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_import, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            # `from package import module` reaches the module; a name that is no module is cut off again by the caller.
            yield from (Import(f"{base}.{alias.name}", at_import, node.lineno) for alias in node.names)
        else:
            runs = at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _only_for_types(node)
            children = [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
            nested = [child for child in children if _parent_is(node, child)]
            yield from _imports(nested, package, at_import=runs)


def _parent_is(node: ast.stmt, child: ast.stmt) -> bool:
    """Whether no other statement lies between the two."""
    queue: list[ast.AST] = list(ast.iter_child_nodes(node))
    while queue:
        current = queue.pop()
        if current is child:
            return True
        if not isinstance(current, ast.stmt):
            queue.extend(ast.iter_child_nodes(current))
    return False


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _only_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def internal(found: Import) -> str | None:
    parts = found.module.split(".")
    return parts[1] if parts[0] == "pace_tune" and len(parts) > 1 else None


def allowed(unit: str, found: Import) -> bool:
    other = internal(found)
    if other not in MAY_IMPORT or other in {unit, *MAY_IMPORT[unit]}:
        return True
    return RUN in MAY_IMPORT[unit] and found.module.startswith(f"pace_tune.{RUN}.")


def test_every_unit_stands_in_the_table():
    assert {unit_of(path) for path in FILES} <= set(MAY_IMPORT)


def test_units_import_only_what_the_table_allows():
    wrong = [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.module}"
        for path in FILES
        for found in imports_of(path)
        if not allowed(unit_of(path), found)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_halves_meet_only_at_the_door():
    assert all(not MAY_IMPORT[unit] & (SEARCHING | {DOOR}) for unit in LEARNING)
    assert all(not MAY_IMPORT[unit] & LEARNING for unit in SEARCHING)


def test_the_searching_half_opens_the_door_only_when_it_is_needed():
    wrong = [
        f"{path.relative_to(ROOT)}:{found.line}"
        for path in FILES
        for found in imports_of(path)
        if unit_of(path) in SEARCHING and internal(found) == DOOR and found.at_import
    ]
    assert not wrong, "import pace_tune.worker inside the function that uses it: " + ", ".join(wrong)


def test_heavy_packages_stay_where_they_belong():
    wrong = []
    for path in FILES:
        for found in imports_of(path):
            anywhere, in_functions = THIRD_PARTY.get(found.module.split(".")[0], (set(MAY_IMPORT), set()))
            allowed = anywhere if found.at_import else anywhere | in_functions
            if unit_of(path) not in allowed:
                wrong.append(f"{path.relative_to(ROOT)}:{found.line} imports {found.module}")
    assert not wrong, "\n".join(wrong)


def test_there_are_no_import_cycles():
    modules = {module_of(path): path for path in FILES}
    graph = {}
    for module, path in modules.items():
        reached = {_known_module(found.module, modules) for found in imports_of(path) if found.at_import}
        graph[module] = reached - {None, module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("import cycle: " + " <- ".join(error.args[1]))


def _known_module(name: str, modules: dict[str, Path]) -> str | None:
    while name and name not in modules:
        name = name.rpartition(".")[0]
    # The packages' __init__ files are empty or lazy: reaching one is no dependency on what it names.
    return name if name and modules[name].name != "__init__.py" else None


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in ALL_FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_function_is_longer_than_a_screen():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {body_lines(node)}"
        for path, node in functions()
        if body_lines(node) > LONGEST_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_no_file_is_longer_than_one_can_hold_in_mind():
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in ALL_FILES}
    long = [f"{path.relative_to(ROOT)}: {lines}" for path, lines in lengths.items() if lines > LONGEST_FILE_LINES]
    assert not long, "\n".join(long)


def test_nothing_is_called_utils():
    assert not [path for path in ALL_FILES if path.stem in {"utils", "util", "helpers", "misc", "common"}]


def test_public_things_say_what_they_are():
    bare = []
    for path in FILES:
        for node in tree_of(path).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                bare.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not bare, "\n".join(bare)


def test_every_registered_class_has_a_docstring_and_a_literal_name():
    wrong = []
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.ClassDef):
                continue
            for call in filter(_is_registration, node.decorator_list):
                literal = all(isinstance(argument, ast.Constant) for argument in call.args)
                if not (literal and call.args and ast.get_docstring(node)):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not wrong, "\n".join(wrong)


def _is_registration(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.func.attr == "register"


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import pace_tune",
        "import pace_tune.cli.main",
        "from pace_tune import registry as r\n[kind.names() for kind in (r.methods, r.objectives, r.tasks, r.backbones)]",
    ],
)
def test_the_first_import_is_light(statement: str):
    assert not loaded_after(statement) & {"torch", "ray", "mlflow", "optuna", "pandas", "matplotlib"}


@pytest.mark.parametrize("package", sorted(SEARCHING - {"cluster"}))
def test_the_searching_half_loads_without_torch(package: str):
    modules = [module_of(path) for path in FILES if unit_of(path) == package]
    assert not loaded_after("import " + ", ".join(modules)) & TORCH


@pytest.mark.parametrize("package", sorted(LEARNING))
def test_the_learning_half_loads_without_ray_and_mlflow(package: str):
    modules = [module_of(path) for path in FILES if unit_of(path) == package]
    assert not loaded_after("import " + ", ".join(modules)) & {"ray", "mlflow", "optuna"}
