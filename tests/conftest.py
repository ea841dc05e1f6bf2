"""What many tests share: one small Ray cluster and one MLflow store for the whole session."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray of four CPUs on this machine; the tests that ask for it share it."""
    import ray

    from pace_tune.cluster.dispatcher import NAMESPACE
    from pace_tune.cluster.embedded import ENVIRONMENT

    os.environ.update(ENVIRONMENT)
    # Its processes import the doubles of the learning half from the tests.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="pt-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            num_cpus=4,
            namespace=NAMESPACE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100 * 1024**2,
            _temp_dir=folder,
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of an MLflow store on SQLite: making its tables takes seconds, so the tests share one."""
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    MlflowClient(uri).search_experiments()
    return uri
