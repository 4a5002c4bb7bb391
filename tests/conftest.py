import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data sets, where they are: `$KD_BENCH_DATA`, else `shared/data` beside the project."""
    folder = Path(os.environ.get("KD_BENCH_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real data: set KD_BENCH_DATA to a folder that has squad_v2/, xquad/, MLQA_V1/")
    return folder
