"""Where a token is found, and which one is said to be missing."""

from pathlib import Path

import pytest

from pace_tune.cluster import tokens

ADDRESS = "http://head:8265"


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (tokens.MODE, tokens.TOKEN, tokens.TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tokens, "DEFAULT_FILE", tmp_path / "home" / "auth_token")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    return path


def test_the_order_is_rays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert tokens.headers() is None
    write(tokens.DEFAULT_FILE, "home")
    assert tokens.headers() == {"Authorization": "Bearer home"}
    monkeypatch.setenv(tokens.TOKEN_PATH, str(write(tmp_path / "named", "named")))
    assert tokens.headers() == {"Authorization": "Bearer named"}
    monkeypatch.setenv(tokens.TOKEN, "given")
    assert tokens.headers() == {"Authorization": "Bearer given"}
    monkeypatch.setenv(tokens.MODE, "disabled")
    assert tokens.headers() is None


def test_a_driver_sends_the_token_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(tokens.MODE, "")
    monkeypatch.delenv(tokens.MODE)
    tokens.prefer_token()
    assert tokens.MODE not in tokens.os.environ
    write(tokens.DEFAULT_FILE, "home")
    tokens.prefer_token()
    assert tokens.os.environ[tokens.MODE] == "token"


def test_a_refusal_says_which_token_is_missing_or_wrong_and_never_its_text(monkeypatch: pytest.MonkeyPatch):
    assert "none was found: put the cluster's token into RAY_AUTH_TOKEN" in tokens.refusal(ADDRESS)
    monkeypatch.setenv(tokens.TOKEN_PATH, "/nowhere")
    assert "RAY_AUTH_TOKEN_PATH names /nowhere, which is no file" in tokens.refusal(ADDRESS)
    monkeypatch.setenv(tokens.TOKEN, "very-secret")
    assert "refused the token of RAY_AUTH_TOKEN" in tokens.refusal(ADDRESS)
    assert "very-secret" not in tokens.refusal(ADDRESS)
    monkeypatch.setenv(tokens.MODE, "disabled")
    assert "RAY_AUTH_MODE=disabled keeps" in tokens.refusal(ADDRESS)
