"""The operator with shorter periods, a program for tests that would otherwise wait for minutes.

Lists come so rarely that they find nothing: what is noticed, the watch has noticed, or the lists that stand
in for it while it fails.
"""

from budget_operator.cluster.lease import Timing
from budget_operator.main import operate
from budget_operator.process import Pace

LEASE = Timing(duration=6, renew_deadline=5.0, retry=0.5)
STREAM_SECONDS = 5

if __name__ == "__main__":
    operate(Pace(resync=3600, fallback=2, retry=1, stream=STREAM_SECONDS, grace=2, lease=LEASE))
