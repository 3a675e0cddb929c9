"""An API server that misbehaves on demand, a real one where its programs are at hand, a serve and cameras."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.kubernetes.fake_api import FakeApi
from integration.kubernetes.real_api import programs, running
from integration.kubernetes.served import PictureCamera, Served, WireServe


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()
    yield fake
    fake.close()


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kubeconfig for etcd and the API server alone."""
    etcd, apiserver = programs()
    missing = [name for name in (etcd, apiserver) if not Path(name).exists()]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)}: make test-cluster builds them")
    yield from running(etcd, apiserver, tmp_path_factory.mktemp("api-server"))


@pytest.fixture
def wire_serve() -> Iterator[str]:
    served = Served(WireServe)
    yield served.url
    served.close()


@pytest.fixture
def picture_url() -> Iterator[str]:
    served = Served(PictureCamera)
    yield f"{served.url}/now.jpg"
    served.close()


@pytest.fixture
def locked_picture() -> Iterator[Served]:
    served = Served(PictureCamera)
    yield served
    served.close()
