from __future__ import annotations

import pytest

from bessemer.errors import ConfigError, ServiceError
from bessemer.search.stores.failures import asking, package


def test_a_package_that_is_missing_names_its_extra() -> None:
    with pytest.raises(ConfigError, match=r"needs the package not-installed; pip install 'bessemer\[qdrant\]'"):
        package("not_installed", "qdrant")


class PanicException(BaseException):
    """As Rust code raises it."""


@pytest.mark.parametrize("error", [RuntimeError("disk full"), PanicException("disk full"), TimeoutError("disk full")])
def test_failures_of_an_engine_are_errors_of_ours(error: BaseException) -> None:
    with pytest.raises(ServiceError, match=r"place: Engine failed \(disk full\)"), asking("Engine", "place"):
        raise error


@pytest.mark.parametrize("error", [KeyError("p"), ConfigError("c"), KeyboardInterrupt(), SystemExit(1)])
def test_what_is_no_failure_of_the_engine_stays(error: BaseException) -> None:
    with pytest.raises(type(error)), asking("Engine", "place"):
        raise error
