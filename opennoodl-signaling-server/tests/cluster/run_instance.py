"""Runs the server with a shorter lease, for quick chaos tests: ``python run_instance.py 1.5``."""

import sys

from opennoodl_signaling.__main__ import main
from opennoodl_signaling.cluster import membership, redis_connection

membership.LEASE = float(sys.argv.pop(1))
membership.FILL = 2 * membership.LEASE
membership.TICK = membership.LEASE / 10
redis_connection.TIMEOUT = membership.LEASE / 2
main()
