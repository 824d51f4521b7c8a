import pytest

pytest.register_assert_rewrite("driverun.testing.store_conformance")
