"""A Google Colab for tests: an importable `google.colab`, with what it does written down and faults on order.

stand_in = ColabStandIn(tmp_path)
stand_in.fail("drive.mount", "MessageError")
...  # start a kernel with stand_in.over(os.environ), run a cell
assert [call.name for call in stand_in.journal()] == ["auth.authenticate_user", "drive.mount"]
"""

from driverun.testing.colab.standin import Call, ColabStandIn, Secret

__all__ = ["Call", "ColabStandIn", "Secret"]
