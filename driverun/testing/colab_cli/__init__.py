"""Google's `colab` command for tests: VMs are folders of this machine, kernels are processes.

It speaks the grammar of google-colab-cli 0.7.5 and has its traps; which of them are sprung is in a plan.
"""

from driverun.testing.colab_cli.cloud import Cloud
from driverun.testing.colab_cli.plan import CloudPlan, MachinePlan, Sight

__all__ = ["Cloud", "CloudPlan", "MachinePlan", "Sight"]
